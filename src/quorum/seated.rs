//! What a replica says of itself while a quorum forms, as bytes. What a peer sends is not trusted: it is read within
//! bounds, and never panics.
//!
//! ```text
//! version u8 | replica | 0 u8, and 0 u8 or 1 u8 and voters         it is blank, and whom it sees        little-endian
//!                      | 1 u8 | length u8 | cluster id | voters    it is of a quorum
//! ```

use bytes::Bytes;

use super::codec::{put_replica, put_voters, replica, voters};
use super::forming::{Formed, Knows, Sitting};
use crate::base::codec::{Put, Reader};
use crate::base::limits::CLUSTER_ID_BYTES_MAX;

/// The version that is written, and the only one that is read.
const VERSION: u8 = 0;
const BLANK: u8 = 0;
const FORMED: u8 = 1;

impl Sitting {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = vec![VERSION];
        put_replica(&mut to, self.replica);
        match &self.knows {
            Knows::Blank(sees) => {
                to.u8(BLANK);
                to.u8(sees.is_some().into());
                if let Some(sees) = sees {
                    put_voters(&mut to, sees);
                }
            }
            Knows::Formed(formed) => {
                to.u8(FORMED);
                let id = formed.cluster.as_bytes();
                let id = &id[..id.len().min(CLUSTER_ID_BYTES_MAX)];
                to.u8(id.len() as u8);
                to.put(id);
                put_voters(&mut to, &formed.voters);
            }
        }
        to
    }

    /// What these bytes say; `None` if they are none that this release writes.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let mut from = Reader::new(bytes.clone());
        if from.u8()? != VERSION {
            return None;
        }
        let replica = replica(&mut from)?;
        let knows = match from.u8()? {
            BLANK => Knows::Blank(match from.u8()? {
                0 => None,
                1 => Some(voters(&mut from)?),
                _ => return None,
            }),
            FORMED => {
                let len = usize::from(from.u8()?);
                let id = from
                    .take(len)
                    .filter(|_| (1..=CLUSTER_ID_BYTES_MAX).contains(&len))?;
                let id = std::str::from_utf8(&id).ok()?;
                let is_sound = id.bytes().all(|byte| byte.is_ascii_graphic());
                Knows::Formed(Formed {
                    cluster: is_sound.then(|| id.into())?,
                    voters: voters(&mut from)?,
                })
            }
            _ => return None,
        };
        from.is_at_end().then_some(Self { replica, knows })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::key_in as key;
    use super::super::voters::Voters;
    use super::*;

    #[test]
    fn what_is_said_is_what_is_heard_and_nothing_else_is() {
        let voters = Voters::new([key(1, 1), key(2, 1), key(3, 1)]).unwrap();
        let formed = Formed {
            cluster: "abc".into(),
            voters: voters.clone(),
        };
        let all = [
            Knows::Blank(None),
            Knows::Blank(Some(voters)),
            Knows::Formed(formed),
        ];
        for knows in all {
            let replica = key(2, 1);
            let said = Sitting { replica, knows };
            let bytes = said.encode();
            assert_eq!(Sitting::decode(&bytes.clone().into()), Some(said));
            for len in 0..bytes.len() {
                assert_eq!(Sitting::decode(&bytes[..len].to_vec().into()), None);
            }
            for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                // It says something else, or nothing.
                let _ = Sitting::decode(&other.clone().into());
                other.push(0);
                assert_eq!(Sitting::decode(&other.into()), None);
            }
        }
    }
}
