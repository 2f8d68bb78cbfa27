//! How fast an autoscaler may go where its metrics lead: stabilization and rates. Pure but for what it remembers of one autoscaler.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// How long a lower recommendation waits where the autoscaler says nothing.
pub const DOWNSCALE_STABILIZATION: SignedDuration = SignedDuration::from_mins(5);

/// Something that happened at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dated {
    at: Timestamp,
    replicas: i32,
}

/// What is remembered of one autoscaler. Losing it makes scaling down wait once more, and rates begin anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    recommendations: Vec<Dated>,
    /// Replicas that were added, and taken away.
    ups: Vec<Dated>,
    downs: Vec<Dated>,
    /// How long a lower recommendation waits where the autoscaler says nothing and it is not the usual time.
    stabilization: Option<SignedDuration>,
}

/// What is recommended to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub current: i32,
    pub desired: i32,
    pub min: i32,
    pub max: i32,
}

/// The replicas that may be had now, and why: reasons and messages of `AbleToScale` and `ScalingLimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub replicas: i32,
    pub able: (&'static str, &'static str),
    pub is_limited: bool,
    pub limited: (&'static str, &'static str),
}

const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: (&str, &str) =
    ("ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation");
const DOWN_STABILIZED: (&str, &str) =
    ("ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation");
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: (&str, &str) = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const UP_LIMIT: (&str, &str) = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: (&str, &str) = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

impl Past {
    /// A lower recommendation waits for this long where the autoscaler says nothing.
    pub fn stabilizing(&mut self, stabilization: SignedDuration) {
        self.stabilization = Some(stabilization);
    }

    fn usual(&self) -> SignedDuration {
        self.stabilization.unwrap_or(DOWNSCALE_STABILIZATION)
    }

    /// A controller that starts takes the size it finds for the first recommendation.
    pub fn begin(&mut self, current: i32, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push(Dated { at: now, replicas: current });
        }
    }

    /// Notes that the target was scaled.
    pub fn scaled(&mut self, behavior: Option<&HorizontalPodAutoscalerBehavior>, from: i32, to: i32, now: Timestamp) {
        let Some(behavior) = behavior else { return };
        let (rules, events) = if to > from { (&behavior.scale_up, &mut self.ups) } else { (&behavior.scale_down, &mut self.downs) };
        let longest = rules.iter().flat_map(|rules| rules.policies.iter().flatten()).map(|policy| policy.period_seconds).max().unwrap_or(0);
        let cutoff = before(now, longest);
        events.retain(|event| event.at >= cutoff);
        events.push(Dated { at: now, replicas: (to - from).abs() });
    }

    /// What may be had of `request`; remembers it.
    pub fn limit(&mut self, request: Request, behavior: Option<&HorizontalPodAutoscalerBehavior>, now: Timestamp) -> Allowed {
        let (stabilized, why) = match behavior {
            None => self.highest(request.desired, now),
            Some(behavior) => self.stabilized(request, behavior, now),
        };
        let able = if stabilized == request.desired { READY } else { why };
        let request = Request { desired: stabilized, ..request };
        let (replicas, limited) = match behavior {
            None => within_plain_limits(request),
            Some(behavior) => self.within_rates(request, behavior, now),
        };
        Allowed { replicas, able, is_limited: replicas != stabilized, limited }
    }

    /// The highest recommendation of the last minutes.
    fn highest(&mut self, desired: i32, now: Timestamp) -> (i32, (&'static str, &'static str)) {
        let cutoff = now.saturating_sub(self.usual()).unwrap_or(Timestamp::MIN);
        self.recommendations.retain(|one| one.at >= cutoff);
        let highest = self.recommendations.iter().map(|one| one.replicas).max().map_or(desired, |highest| highest.max(desired));
        self.recommendations.push(Dated { at: now, replicas: desired });
        (highest, DOWN_STABILIZED)
    }

    /// As near to the current size as the recommendations of both windows allow.
    fn stabilized(&mut self, request: Request, behavior: &HorizontalPodAutoscalerBehavior, now: Timestamp) -> (i32, (&'static str, &'static str)) {
        let window = |rules: &Option<HPAScalingRules>, otherwise: i32| {
            before(now, rules.as_ref().and_then(|rules| rules.stabilization_window_seconds).unwrap_or(otherwise))
        };
        let (up, down) = (window(&behavior.scale_up, 0), window(&behavior.scale_down, seconds(self.usual())));
        let since = |cutoff: Timestamp| self.recommendations.iter().filter(move |one| one.at > cutoff).map(|one| one.replicas);
        let lowest = since(up).fold(request.desired, i32::min);
        let highest = since(down).fold(request.desired, i32::max);
        let replicas = request.current.max(lowest).min(highest);
        self.recommendations.retain(|one| one.at >= up || one.at >= down);
        self.recommendations.push(Dated { at: now, replicas: request.desired });
        (replicas, if request.desired >= request.current { UP_STABILIZED } else { DOWN_STABILIZED })
    }

    fn within_rates(&self, request: Request, behavior: &HorizontalPodAutoscalerBehavior, now: Timestamp) -> (i32, (&'static str, &'static str)) {
        let Request { current, desired, min, max } = request;
        if desired > current {
            let rate = behavior.scale_up.as_ref().map_or(i32::MAX, |rules| self.rate(rules, current, Direction::Up, now)).max(current);
            let (most, why) = if max > rate { (rate, UP_LIMIT) } else { (max, TOO_MANY) };
            return if desired > most { (most, why) } else { (desired, WITHIN) };
        }
        if desired < current {
            let rate = behavior.scale_down.as_ref().map_or(i32::MIN, |rules| self.rate(rules, current, Direction::Down, now)).min(current);
            let (least, why) = if min < rate { (rate, DOWN_LIMIT) } else { (min, TOO_FEW) };
            return if desired < least { (least, why) } else { (desired, WITHIN) };
        }
        (desired, WITHIN)
    }

    /// How far the policies of one direction let the target go from where it was when their periods began.
    fn rate(&self, rules: &HPAScalingRules, current: i32, direction: Direction, now: Timestamp) -> i32 {
        let select = rules.select_policy.as_deref().unwrap_or("Max");
        if select == "Disabled" {
            return current;
        }
        let limits = rules.policies.iter().flatten().map(|policy| {
            let changed = |events: &[Dated]| -> i64 {
                let cutoff = before(now, policy.period_seconds);
                events.iter().filter(|event| event.at > cutoff).map(|event| i64::from(event.replicas)).sum()
            };
            let start = i64::from(current) - changed(&self.ups) + changed(&self.downs);
            let limit = match (policy.type_.as_str(), direction) {
                ("Pods", Direction::Up) => start + i64::from(policy.value),
                ("Pods", Direction::Down) => start - i64::from(policy.value),
                (_, Direction::Up) => hundredth_up(start * (100 + i64::from(policy.value))),
                (_, Direction::Down) => start * (100 - i64::from(policy.value)) / 100,
            };
            i32::try_from(limit).unwrap_or(if limit < 0 { i32::MIN } else { i32::MAX })
        });
        let furthest = matches!(direction, Direction::Up) == (select != "Min");
        let (limit, none) = if furthest { (limits.max(), i32::MIN) } else { (limits.min(), i32::MAX) };
        limit.unwrap_or(none)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// Without a behavior a target at most doubles, or comes to four.
fn within_plain_limits(request: Request) -> (i32, (&'static str, &'static str)) {
    let Request { current, desired, min, max } = request;
    let rate = current.saturating_mul(2).max(4);
    let (most, why) = if max > rate { (rate, UP_LIMIT) } else { (max, TOO_MANY) };
    if desired < min {
        (min, TOO_FEW)
    } else if desired > most {
        (most, why)
    } else {
        (desired, WITHIN)
    }
}

fn hundredth_up(value: i64) -> i64 {
    value.div_euclid(100) + i64::from(value.rem_euclid(100) != 0)
}

fn before(now: Timestamp, seconds: i32) -> Timestamp {
    now.saturating_sub(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MIN)
}

fn seconds(duration: SignedDuration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}
