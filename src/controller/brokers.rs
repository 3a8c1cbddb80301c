//! Brokers come, are fenced, return and go: what is recorded of it. What follows for partitions, a [`Cause`] says.

use std::collections::BTreeSet;

use super::draft::Draft;
use super::features::{FeatureLevel, REGISTRATION_LEVEL};
use super::image::Image;
use super::moves::{Cause, Settled};
use super::record::MetadataRecord;
use super::registered::{BrokerAddress, Directory, Registration};
use crate::base::limits::DIRECTORIES_MAX;
use crate::base::{ErrorCode, Incarnation, NodeId, NodeProcess, Refused};

/// A process that wants to be one of the brokers (Kafka's BrokerRegistration).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joining {
    /// Its node.
    pub node: NodeId,
    /// Random, of the process.
    pub start: [u8; 16],
    /// The cluster that it belongs to.
    pub cluster_id: String,
    /// The newest feature level that it reads.
    pub level: FeatureLevel,
    /// Where it stands.
    pub rack: Option<String>,
    /// Where clients reach it.
    pub addresses: Vec<BrokerAddress>,
    /// All its directories, in the order of its stores.
    pub directories: Vec<Directory>,
}

/// Registers a process, fenced, in place of the one of its node before it; says as whom, and what follows. Asked again,
/// the same process is told the same.
///
/// # Errors
/// INCONSISTENT_CLUSTER_ID; UNSUPPORTED_VERSION if it cannot read what is written, or if the feature level has no
/// registrations yet; INVALID_REGISTRATION of an id or a listener that cannot be, or of directories that are none, too
/// many, or another broker's; DUPLICATE_BROKER_REGISTRATION if a process with other directories is alive
/// under the same id. The draft is unchanged.
pub fn register(
    draft: &mut Draft,
    joining: Joining,
) -> Result<(NodeProcess, Option<Cause>), Refused> {
    debug_assert!(draft.is_settled(), "its number is that of its record");
    let image = draft.image();
    let node = joining.node;
    if image.cluster_id.as_deref() != Some(&*joining.cluster_id) {
        let message = format!(
            "Expected cluster ID {}, but got cluster ID {}.",
            image.cluster_id.as_deref().unwrap_or("none"),
            joining.cluster_id
        );
        return Err(Refused::because(ErrorCode::InconsistentClusterId, message));
    }
    if image.features < REGISTRATION_LEVEL {
        let message = format!(
            "The cluster has feature level {}, and brokers register from {REGISTRATION_LEVEL} on.",
            image.features
        );
        return Err(Refused::because(ErrorCode::UnsupportedVersion, message));
    }
    if joining.level < image.features {
        let message = format!(
            "Broker {node} reads records up to feature level {}, but level {} is in use: start a newer release.",
            joining.level, image.features
        );
        return Err(Refused::because(ErrorCode::UnsupportedVersion, message));
    }
    check_identity(&joining)?;
    check_directories(draft, &joining)?;
    let known = image.brokers.get(node);
    if let Some(known) = known {
        if known.start == joining.start {
            // What follows from its registration may have come to nothing with the controller that recorded it.
            return Ok((known.member, known.fenced.then_some(Cause::Fenced(node))));
        }
        let has_same = |directory: &Directory| joining.directories.contains(directory);
        if !known.fenced && !known.directories.iter().any(has_same) {
            let message = format!(
                "Another broker is registered with id {node} and is alive: each needs a node.id of its own."
            );
            return Err(Refused::because(
                ErrorCode::DuplicateBrokerRegistration,
                message,
            ));
        }
    }
    let before = known.map_or(0, |known| known.member.incarnation.0);
    let member = NodeProcess {
        node,
        incarnation: Incarnation(image.version.max(before).saturating_add(1)),
    };
    draft.push(MetadataRecord::Broker(Registration {
        member,
        start: joining.start,
        fenced: true,
        level: joining.level,
        rack: joining.rack,
        addresses: joining.addresses,
        directories: joining.directories,
    }));
    Ok((member, Some(Cause::Fenced(node))))
}

fn invalid(message: String) -> Refused {
    Refused::because(ErrorCode::InvalidRegistration, message)
}

fn check_identity(joining: &Joining) -> Result<(), Refused> {
    let node = joining.node;
    if !(0..=NodeId::DIRECT_MAX).contains(&node.0) {
        let max = NodeId::DIRECT_MAX;
        return Err(invalid(format!("Broker {node} has no id from 0 to {max}.")));
    }
    let mut names = BTreeSet::new();
    let twice = joining
        .addresses
        .iter()
        .find(|address| !names.insert(&address.listener));
    match twice {
        Some(address) => Err(invalid(format!(
            "Broker {node} has listener {} twice.",
            address.listener
        ))),
        None => Ok(()),
    }
}

fn check_directories(draft: &Draft, joining: &Joining) -> Result<(), Refused> {
    let node = joining.node;
    if !(1..=DIRECTORIES_MAX).contains(&joining.directories.len()) {
        return Err(invalid(format!(
            "Broker {node} has {} directories: 1 to {DIRECTORIES_MAX} are possible.",
            joining.directories.len()
        )));
    }
    let mut ids = BTreeSet::new();
    if let Some(twice) = joining.directories.iter().find(|it| !ids.insert(it.id)) {
        return Err(invalid(format!(
            "Broker {node} has directory {} twice.",
            twice.id
        )));
    }
    let others = draft.image().brokers.iter();
    for other in others.filter(|broker| broker.member.node != node) {
        if let Some(shared) = other.directories.iter().find(|it| ids.contains(&it.id)) {
            return Err(invalid(format!(
                "Broker {node} wants to register directory {}, which is one of broker {}.",
                shared.id, other.member.node
            )));
        }
    }
    Ok(())
}

/// Fences a broker. `None` if it is fenced already, or unknown.
pub fn fence(draft: &mut Draft, node: NodeId) -> Option<Cause> {
    let brokers = &draft.image().brokers;
    let member = brokers.member(node).filter(|it| brokers.is_live(*it))?;
    let fenced = true;
    draft.push(MetadataRecord::Fence { member, fenced });
    Some(Cause::Fenced(node))
}

/// Lets a process lead and be in sync: it has shown that it is alive and knows the metadata. `None` if it was so
/// already. A process that is new is settled, too: by the moves that follow from its registration, or by those of
/// [`Cause::Fenced`] if nothing does.
///
/// # Errors
/// STALE_BROKER_EPOCH if it is not the registered process of its node, or another one is settled.
pub fn unfence(
    draft: &mut Draft,
    member: NodeProcess,
    settled: Settled,
) -> Result<Option<Cause>, Refused> {
    let brokers = &draft.image().brokers;
    if brokers.member(member.node) != Some(member) || settled.node() != member.node {
        return Err(ErrorCode::StaleBrokerEpoch.into());
    }
    if brokers.is_live(member) {
        return Ok(None);
    }
    let raised = brokers.level_to_raise_to(draft.image().features, None);
    let fenced = false;
    draft.push(MetadataRecord::Fence { member, fenced });
    // It may have been the last one of an earlier release.
    if let Some(level) = raised {
        draft.push(MetadataRecord::Features { level });
    }
    Ok(Some(Cause::Unfenced(member.node)))
}

/// Whether a broker may be forgotten.
///
/// # Errors
/// BROKER_ID_NOT_REGISTERED; INVALID_REQUEST if it is live.
pub fn may_be_removed(image: &Image, node: NodeId) -> Result<(), Refused> {
    let Some(known) = image.brokers.get(node) else {
        let message = format!("Broker ID {node} is not currently registered");
        return Err(Refused::because(ErrorCode::BrokerIdNotRegistered, message));
    };
    if !known.fenced {
        let message = format!("Broker {node} is live: stop it first.");
        return Err(Refused::because(ErrorCode::InvalidRequest, message));
    }
    Ok(())
}

/// Forgets a broker (UnregisterBroker), of which everything has been recorded that follows from its absence.
///
/// # Errors
/// Those of [`may_be_removed`].
pub fn remove_broker(draft: &mut Draft, settled: Settled) -> Result<(), Refused> {
    let node = settled.node();
    may_be_removed(draft.image(), node)?;
    let brokers = &draft.image().brokers;
    let raised = brokers.level_to_raise_to(draft.image().features, Some(node));
    draft.push(MetadataRecord::RemoveBroker { node });
    // It may have been the last one of an earlier release.
    if let Some(level) = raised {
        draft.push(MetadataRecord::Features { level });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BrokerConfig;
    use crate::controller::testing::{broker, cluster};
    use crate::controller::{FEATURE_LEVEL, Moves};

    /// A process of a broker with the directories that one of this number has.
    fn joining(node: i32, start: u8, directories_of: i32) -> Joining {
        Joining {
            node: NodeId(node),
            start: [start; 16],
            cluster_id: "c".to_owned(),
            level: FEATURE_LEVEL,
            rack: None,
            addresses: Vec::new(),
            directories: broker(directories_of, 2).directories,
        }
    }

    fn address() -> BrokerAddress {
        BrokerAddress {
            listener: "A".to_owned(),
            host: "host".to_owned(),
            port: 9092,
            shards: Vec::new(),
        }
    }

    fn three() -> Image {
        let mut image = cluster(3);
        let id = "c".to_owned();
        image.features = REGISTRATION_LEVEL;
        image
            .replay(&MetadataRecord::Cluster { id })
            .expect("the first");
        image
    }

    /// Nothing is left to be moved from a broker.
    fn settled(node: NodeId) -> Settled {
        let mut moves = Moves::new(Cause::Fenced(node));
        assert!(moves.go_on(
            &mut Draft::new(&three()),
            &BrokerConfig::default(),
            &mut 100
        ));
        moves.settled().expect("all is looked at")
    }

    fn join(
        image: &mut Image,
        joining: Joining,
    ) -> Result<(NodeProcess, Option<Cause>), ErrorCode> {
        let mut draft = Draft::new(image);
        let joined = register(&mut draft, joining).map_err(|refused| refused.code)?;
        draft.settle();
        *image = draft.into_change().image;
        Ok(joined)
    }

    #[test]
    fn each_process_has_a_number_of_its_own_and_is_fenced_at_first() {
        let mut image = three();
        let (first, follows) = join(&mut image, joining(4, 1, 4)).expect("it is new");
        let fenced = Some(Cause::Fenced(NodeId(4)));
        assert_eq!(follows, fenced);
        assert!(!image.brokers.is_live(first));
        let version = image.version;
        let again = join(&mut image, joining(4, 1, 4));
        assert_eq!(again, Ok((first, fenced)), "it was not told");
        assert_eq!(image.version, version);
        let mut draft = Draft::new(&image);
        let settled = settled(NodeId(4));
        let cause = unfence(&mut draft, first, settled).expect("it is registered");
        assert_eq!(cause, Some(Cause::Unfenced(NodeId(4))));
        draft.settle();
        assert_eq!(unfence(&mut draft, first, settled), Ok(None));
        image = draft.into_change().image;
        let again = join(&mut image, joining(4, 1, 4));
        assert_eq!(again, Ok((first, None)), "nothing follows any more");
        assert!(image.brokers.is_live(first));
        // The same stores: the process before is no more, whatever it seems.
        let (second, follows) = join(&mut image, joining(4, 2, 4)).expect("it is newer");
        assert_eq!(follows, Some(Cause::Fenced(NodeId(4))));
        assert!(second.incarnation > first.incarnation && !image.brokers.is_live(second));
        let mut draft = Draft::new(&image);
        assert_eq!(
            unfence(&mut draft, first, settled).map_err(|refused| refused.code),
            Err(ErrorCode::StaleBrokerEpoch)
        );
        assert_eq!(fence(&mut draft, NodeId(4)), None, "it is fenced");
        // Its stores are new, and it is fenced: it may.
        assert!(join(&mut image, joining(4, 3, 5)).is_ok());
    }

    #[test]
    fn who_may_not_be_one_of_the_cluster() {
        let mut image = three();
        image.features = FEATURE_LEVEL;
        type Change = fn(&mut Joining);
        let cases: [(Change, ErrorCode); 8] = [
            (|it| it.node = NodeId(-1), ErrorCode::InvalidRegistration),
            (
                |it| it.addresses = vec![address(), address()],
                ErrorCode::InvalidRegistration,
            ),
            (
                |it| it.cluster_id = "d".to_owned(),
                ErrorCode::InconsistentClusterId,
            ),
            (|it| it.level -= 1, ErrorCode::UnsupportedVersion),
            (|it| it.directories.clear(), ErrorCode::InvalidRegistration),
            (
                |it| it.directories.push(it.directories[0]),
                ErrorCode::InvalidRegistration,
            ),
            (
                |it| it.directories = broker(3, 1).directories,
                ErrorCode::InvalidRegistration,
            ),
            // Alive, and not with these directories.
            (
                |it| it.node = NodeId(2),
                ErrorCode::DuplicateBrokerRegistration,
            ),
        ];
        for (change, code) in cases {
            let mut it = joining(4, 1, 4);
            change(&mut it);
            let before = image.clone();
            assert_eq!(join(&mut image, it).map(|_| ()), Err(code));
            assert_eq!(image, before);
        }
        image.features = REGISTRATION_LEVEL - 1;
        let early = join(&mut image, joining(4, 1, 4)).map(|_| ());
        assert_eq!(early, Err(ErrorCode::UnsupportedVersion));
    }

    /// A process comes that reads so much, and is let lead.
    fn comes(image: &mut Image, node: i32, level: FeatureLevel) {
        let it = Joining {
            level,
            ..joining(node, level as u8 + 1, node)
        };
        let (member, _) = join(image, it).expect("it is registered");
        let mut draft = Draft::new(image);
        unfence(&mut draft, member, settled(NodeId(node))).expect("it is the registered one");
        draft.settle();
        *image = draft.into_change().image;
    }

    /// Those that are away count, as they have to read what is written meanwhile.
    #[test]
    fn the_feature_level_is_raised_when_the_last_broker_of_an_earlier_release_is_gone() {
        let mut image = three();
        let older = REGISTRATION_LEVEL;
        for node in [1, 2, 3] {
            comes(&mut image, node, older);
        }
        assert_eq!(image.features, older);
        for node in [1, 2] {
            comes(&mut image, node, FEATURE_LEVEL);
            assert_eq!(image.features, older);
        }
        image.brokers.set_fenced(NodeId(3), true);
        comes(&mut image, 1, FEATURE_LEVEL + 1);
        assert_eq!(image.features, older);
        comes(&mut image, 3, FEATURE_LEVEL + 1);
        assert_eq!(image.features, FEATURE_LEVEL, "this release knows no other");
        let early = join(&mut image, joining(3, 9, 3)).map(|_| ());
        assert_eq!(early, Ok(()));
    }

    #[test]
    fn a_broker_that_is_removed_is_unknown_and_holds_the_level_down_no_more() {
        let mut image = three();
        let older = REGISTRATION_LEVEL;
        for (node, level) in [(1, FEATURE_LEVEL), (2, FEATURE_LEVEL), (3, older)] {
            comes(&mut image, node, level);
        }
        let remove = |image: &Image| {
            let mut draft = Draft::new(image);
            let removed = remove_broker(&mut draft, settled(NodeId(3)));
            draft.settle();
            let removed = removed.map_err(|refused| refused.code);
            (removed, draft.into_change().image)
        };
        let live = (Err(ErrorCode::InvalidRequest), image.clone());
        assert_eq!(remove(&image), live);
        image.brokers.set_fenced(NodeId(3), true);
        assert_eq!(image.features, older);
        let (removed, image) = remove(&image);
        assert_eq!(removed, Ok(()));
        assert_eq!(image.brokers.get(NodeId(3)), None);
        assert_eq!(image.features, FEATURE_LEVEL);
        let unknown = Err(ErrorCode::BrokerIdNotRegistered);
        assert_eq!(remove(&image).0, unknown);
    }
}
