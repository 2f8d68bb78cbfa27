//! Turns of those whose logs are passed on: what comes for one of them is encrypted and sent before the next one's, and who follows a
//! thousand logs has one turn while somebody else has one.

use std::sync::{Arc, LazyLock};

use troupe_api::aside::{self, places::Places};

/// Pieces that are sent at one time: no more than there are workers, or all would be behind one another.
const AT_ONCE: u32 = 2;

static SENDING: LazyLock<Places> = LazyLock::new(|| Places::new(AT_ONCE));

/// Those who have turns on behalf of one user.
#[derive(Clone, Debug)]
pub struct Turns(Arc<str>);

impl Turns {
    /// Turns of whoever this is done for.
    pub fn of_caller() -> Self {
        Turns(aside::behalf())
    }

    /// Waits for the turn to send a piece that has come. It is over when the piece is on its way, or its client takes no more: a client
    /// that is slow holds up nobody.
    pub async fn begin(&self) {
        let Some(place) = SENDING.take(&self.0, 1).await else { return };
        actix_web::rt::spawn(async move {
            // Whoever waited for the turn is polled before this is polled again.
            tokio::task::yield_now().await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[actix_web::test]
    async fn who_follows_much_does_not_delay_who_follows_little() {
        let sent = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = Vec::new();
        for (who, count) in [("ann", 300), ("bob", 3)] {
            for _ in 0..count {
                let (turns, sent) = (Turns(who.into()), sent.clone());
                tasks.push(actix_web::rt::spawn(async move {
                    turns.begin().await;
                    sent.borrow_mut().push(who);
                }));
            }
        }
        for task in tasks {
            task.await.expect("ends");
        }
        let sent = sent.borrow();
        let last = sent.iter().rposition(|who| *who == "bob").expect("is served");
        assert!(last < 12, "bob's last turn was number {last}");
        assert_eq!(sent.len(), 303);
    }
}
