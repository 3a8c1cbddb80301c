//! The types of the listener settings.

use super::value::{Kind, Value};

/// A listener or what is advertised for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Listener name, upper case.
    pub name: String,
    /// Host name or address, without the brackets of IPv6; empty for every address.
    pub host: String,
    /// Port; 0 for one that the system chooses.
    pub port: u16,
}

impl Endpoint {
    /// Whether no client could connect to the host as it is written.
    #[must_use]
    pub fn names_no_host(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::")
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, address) = text.trim().split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        is_listener_name(name).then_some(())?;
        Some(Self {
            name: name.to_ascii_uppercase(),
            host: host.to_owned(),
            port: port.parse().ok()?,
        })
    }

    fn show(&self) -> String {
        let Self { name, host, port } = self;
        if host.contains(':') {
            format!("{name}://[{host}]:{port}")
        } else {
            format!("{name}://{host}:{port}")
        }
    }
}

fn is_listener_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !name.is_empty() && name.chars().all(allowed)
}

/// An address that is not of Kafka's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(pub Endpoint);

impl Value for Address {
    const KIND: Kind = Kind::String;

    fn parse(text: &str) -> Result<Self, String> {
        let endpoint = Endpoint::parse(&format!("HTTP://{}", text.trim()));
        let endpoint = endpoint.ok_or_else(|| "host:port".to_owned())?;
        Ok(Self(endpoint))
    }

    fn show(&self) -> Option<String> {
        let shown = self.0.show();
        Some(shown.trim_start_matches("HTTP://").to_owned())
    }
}

/// Endpoints of different names, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(pub Vec<Endpoint>);

impl Endpoints {
    /// One PLAINTEXT listener on every address of the machine.
    #[must_use]
    pub fn plaintext(port: u16) -> Self {
        Self(vec![Endpoint {
            name: "PLAINTEXT".to_owned(),
            host: String::new(),
            port,
        }])
    }
}

impl Value for Endpoints {
    const KIND: Kind = Kind::List;

    fn parse(text: &str) -> Result<Self, String> {
        let mut all: Vec<Endpoint> = Vec::new();
        for part in text.split(',') {
            let endpoint = Endpoint::parse(part)
                .ok_or_else(|| "NAME://host:port, separated by commas".to_owned())?;
            if all.iter().any(|other| other.name == endpoint.name) {
                return Err("each listener name once".to_owned());
            }
            let taken =
                |other: &Endpoint| other.port == endpoint.port && other.host == endpoint.host;
            if endpoint.port != 0 && all.iter().any(taken) {
                return Err("each address once".to_owned());
            }
            all.push(endpoint);
        }
        Ok(Self(all))
    }

    fn show(&self) -> Option<String> {
        let all: Vec<_> = self.0.iter().map(Endpoint::show).collect();
        Some(all.join(","))
    }
}

/// The security protocol of each listener name, both in upper case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolMap(pub Vec<(String, String)>);

impl ProtocolMap {
    /// Every protocol that Kafka has. Only PLAINTEXT can be listened to.
    const PROTOCOLS: [&str; 4] = ["SASL_SSL", "PLAINTEXT", "SSL", "SASL_PLAINTEXT"];

    /// The protocol of listeners of this name.
    #[must_use]
    pub fn protocol(&self, name: &str) -> Option<&str> {
        let known = self.0.iter().find(|(known, _)| known == name);
        known.map(|(_, protocol)| protocol.as_str())
    }
}

impl Default for ProtocolMap {
    fn default() -> Self {
        let own = |protocol: &str| (protocol.to_owned(), protocol.to_owned());
        Self(Self::PROTOCOLS.map(own).into())
    }
}

impl Value for ProtocolMap {
    const KIND: Kind = Kind::String;

    fn parse(text: &str) -> Result<Self, String> {
        let mut names = Vec::new();
        for part in text.split(',') {
            let (name, protocol) = part
                .trim()
                .split_once(':')
                .filter(|(name, _)| is_listener_name(name))
                .ok_or_else(|| "NAME:PROTOCOL, separated by commas".to_owned())?;
            let protocol = protocol.to_ascii_uppercase();
            if !Self::PROTOCOLS.contains(&protocol.as_str()) {
                return Err(format!(
                    "protocols of these: {}",
                    Self::PROTOCOLS.join(", ")
                ));
            }
            names.push((name.to_ascii_uppercase(), protocol));
        }
        Ok(Self(names))
    }

    fn show(&self) -> Option<String> {
        let all: Vec<_> = self
            .0
            .iter()
            .map(|(name, protocol)| format!("{name}:{protocol}"))
            .collect();
        Some(all.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_shown() {
        for text in [
            "PLAINTEXT://:9092",
            "PLAINTEXT://127.0.0.1:0,INSIDE://[::1]:9093",
        ] {
            assert_eq!(Endpoints::parse(text).unwrap().show().unwrap(), text);
        }
    }

    #[test]
    fn an_address_is_host_and_port() {
        for text in ["127.0.0.1:9644", "[::1]:0", ":9644"] {
            assert_eq!(Address::parse(text).unwrap().show().unwrap(), text);
        }
        for text in ["", "9644", "::1:9644", "HTTP://a:1"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bad_endpoints_are_refused() {
        for text in [
            "",
            "localhost:9092",
            "PLAINTEXT://localhost",
            "PLAINTEXT://localhost:70000",
            "PLAINTEXT://::1:9092",
            "PLAINTEXT://:1,PLAINTEXT://:2",
            "A://:1,B://:1",
            "://:1",
        ] {
            assert!(Endpoints::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_mapped_to_protocols_of_kafka() {
        let map = ProtocolMap::parse("inside:PLAINTEXT, OUT:ssl").unwrap();
        assert_eq!(map.protocol("INSIDE"), Some("PLAINTEXT"));
        assert_eq!(map.protocol("OUT"), Some("SSL"));
        assert_eq!(map.protocol("PLAINTEXT"), None);
        assert!(ProtocolMap::parse("OUT:TLS").is_err());
        assert!(ProtocolMap::parse("OUT").is_err());
    }
}
