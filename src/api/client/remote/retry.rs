//! Whether a request is sent again, and when. Pure.

use std::time::Duration;

/// A request is sent at most this often.
const ATTEMPTS: u32 = 5;
/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A server that asks for more patience than this is not waited for here: the caller knows better what to do meanwhile.
const LONGEST_WISH: Duration = Duration::from_secs(3);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Answered {
        code: u16,
        retry_after: Option<Duration>,
    },
    /// It never left this machine.
    NotSent,
    /// It was sent; whether it was carried out is not known.
    Lost,
    TimedOut,
}

/// How long to wait before the request is sent again; `None` when it should not be. `attempt` counts from 1; `random`
/// lies between 0 and 1.
pub fn pause(is_read: bool, attempt: u32, ended: Ended, random: f64) -> Option<Duration> {
    if attempt >= ATTEMPTS {
        return None;
    }
    let backoff = FIRST_PAUSE.mul_f64(f64::from(1_u32 << (attempt - 1)) * (0.5 + random));
    match ended {
        Ended::NotSent => Some(backoff),
        Ended::Lost if is_read => Some(backoff),
        // Refused before anything was done; upstream's clients understand it so too.
        Ended::Answered { code: 429 | 500..=599, retry_after: Some(wish) } => (wish <= LONGEST_WISH).then(|| wish.max(backoff)),
        Ended::Answered { code: 429, .. } => Some(backoff),
        Ended::Answered { code: 502 | 503, .. } if is_read => Some(backoff),
        Ended::Answered { .. } | Ended::Lost | Ended::TimedOut => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_sent_again_only_when_it_certainly_was_not_carried_out() {
        let answered = |code, retry_after: Option<u64>| Ended::Answered { code, retry_after: retry_after.map(Duration::from_secs) };
        for (ended, write, read) in [
            (Ended::NotSent, true, true),
            (Ended::Lost, false, true),
            (Ended::TimedOut, false, false),
            (answered(503, None), false, true),
            (answered(503, Some(1)), true, true),
            (answered(429, Some(1)), true, true),
            (answered(429, Some(60)), false, false),
            (answered(500, None), false, false),
            (answered(200, None), false, false),
        ] {
            assert_eq!(pause(false, 1, ended, 0.5).is_some(), write, "{ended:?}");
            assert_eq!(pause(true, 1, ended, 0.5).is_some(), read, "{ended:?}");
        }
    }

    #[test]
    fn pauses_double_and_attempts_end() {
        assert_eq!(pause(true, 1, Ended::Lost, 0.5), Some(Duration::from_millis(50)));
        assert_eq!(pause(true, 3, Ended::Lost, 0.5), Some(Duration::from_millis(200)));
        assert_eq!(pause(true, ATTEMPTS, Ended::Lost, 0.5), None);
    }
}
