//! What AlterConfigs and IncrementalAlterConfigs have in common: both list resources, make all changes of one that the
//! request names or none of them, and refuse a resource that comes twice.

use kafka_wire::RequestResponsePair;
use kafka_wire_core::{KafkaEncode, StrBytes};

use super::deciding::{Decide, Deciding};
use super::describe_configs::{
    BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC, check_broker, unsupported,
};
use super::handler::{Ctx, outcome};
use super::once::Once;
use crate::base::{ErrorCode, Leftovers, NodeId, Refused};
use crate::controller::{
    ConfigOp, ConfigResource, alter_broker_configs, alter_group_configs, alter_topic_configs,
    check_topic_name,
};
use crate::wire::Lists;

/// What a resource takes of a slice: its settings are looked at, and how they were.
const RESOURCE_SIZE: usize = 4;

/// A request to alter settings.
pub(super) trait Alters:
    RequestResponsePair<Response: Default> + Lists<Item: 'static> + 'static
{
    /// The answer for a resource.
    type Answer: KafkaEncode;

    /// Whether it is only to be found out what would be.
    fn only_validates(&self) -> bool;

    /// Kind and name of a resource.
    fn name(resource: &Self::Item) -> (i8, StrBytes);

    /// Makes the changes of a resource.
    fn alter(cx: &mut Deciding<'_>, resource: &Self::Item) -> Result<(), Refused>;

    /// The answer for the resource of this name, with error code and message.
    fn answer(name: (i8, StrBytes), outcome: (i16, Option<StrBytes>)) -> Self::Answer;

    /// Makes of an answer the one for a full store.
    fn refuse(answer: &mut Self::Answer);
}

/// The resources of a request.
#[derive(Debug)]
pub(super) struct Resources<R: Alters>(Once<(i8, StrBytes), R::Item>);

impl<R: Alters> Decide for Resources<R> {
    type Request = R;
    type Element = R::Answer;
    const WHEN_FULL: Option<fn(&mut R::Answer)> = Some(R::refuse);

    fn new(_: i16) -> Self {
        Self(Once::default())
    }

    fn take(&mut self, _: &Ctx<'_>, resource: R::Item) {
        self.0.push(R::name(&resource), resource);
    }

    fn rest(&mut self, request: R) -> bool {
        request.only_validates()
    }

    fn next(&mut self, cx: &mut Deciding<'_>) -> Option<R::Answer> {
        let (name, resource, is_once) = self.0.next_named()?;
        let result = match is_once {
            true => R::alter(cx, &resource),
            false => Err(named_twice()),
        };
        Some(R::answer(name, outcome(result.as_ref().err())))
    }

    fn leave(self, leftovers: &mut Leftovers) {
        self.0.leave(leftovers, R::entries);
    }

    fn size(&self) -> usize {
        RESOURCE_SIZE + self.0.peek().map_or(0, R::entries)
    }
}

fn named_twice() -> Refused {
    let why = "Each resource must appear at most once.";
    Refused::because(ErrorCode::InvalidRequest, why)
}

/// What has the settings that are to be changed.
pub(super) fn target(ctx: &Ctx<'_>, kind: i8, name: &str) -> Result<ConfigResource, Refused> {
    let invalid = |why: &'static str| Err(Refused::because(ErrorCode::InvalidRequest, why));
    match kind {
        TOPIC if name.is_empty() => invalid("Default topic resources are not allowed."),
        TOPIC => {
            check_topic_name(name)
                .map_err(|why| Refused::because(ErrorCode::InvalidTopicException, why))?;
            Ok(ConfigResource::Topic(name.to_owned()))
        }
        BROKER if name.is_empty() => Ok(ConfigResource::Broker(None)),
        BROKER => broker(ctx, name).map(|node| ConfigResource::Broker(Some(node))),
        BROKER_LOGGER => {
            check_broker(ctx, name)?;
            let why = "The levels of loggers cannot be changed here.";
            Err(Refused::because(ErrorCode::InvalidConfig, why))
        }
        CLIENT_METRICS => invalid("Clients cannot be asked for metrics yet."),
        GROUP if name.is_empty() => invalid("Default group resources are not allowed."),
        GROUP => Ok(ConfigResource::Group(name.to_owned())),
        other => Err(unsupported(other)),
    }
}

/// The broker that a resource is: this one, or any that is registered, for another one may have forwarded this.
fn broker(ctx: &Ctx<'_>, name: &str) -> Result<NodeId, Refused> {
    let known = name.parse::<i32>().ok();
    let known = known.map(|id| ctx.brokers.place(ctx.image, id).0);
    match known.filter(|node| ctx.image.brokers.get(*node).is_some()) {
        Some(node) => Ok(node),
        None => check_broker(ctx, name).map(|()| ctx.config.node()),
    }
}

/// Makes the changes of one resource, all or none of them.
pub(super) fn apply(
    cx: &mut Deciding<'_>,
    target: &ConfigResource,
    changes: &[(String, ConfigOp)],
) -> Result<(), Refused> {
    let (draft, config) = (&mut *cx.draft, cx.ctx.config);
    match target {
        ConfigResource::Topic(name) => alter_topic_configs(draft, config, name, changes),
        ConfigResource::Broker(node) => alter_broker_configs(draft, config, *node, changes),
        ConfigResource::Group(id) => alter_group_configs(draft, config, id, changes),
    }
}

/// The value of a setting, which must not be null.
pub(super) fn value(key: &str, value: Option<&StrBytes>) -> Result<String, Refused> {
    let why = || format!("Null value not supported for : {key}");
    value
        .map(|value| value.as_str().to_owned())
        .ok_or_else(|| Refused::because(ErrorCode::InvalidRequest, why()))
}
