use troupe_api::service::UserInfo;

use super::*;
use crate::flow::room::{Distinguisher, Parts};

fn level(name: &str, nominal: usize, lendable: usize, queuing: Option<Queuing>) -> Level {
    let bounds = Bounds { nominal, lendable, most: usize::MAX, queuing, exempt: false };
    Level { name: name.into(), uid: name.into(), bounds, room: Arc::default() }
}

fn claim(levels: &Arc<[Level]>, at: usize) -> Claim {
    let asked = Asked {
        schema: "s".into(),
        method: Distinguisher::None,
        arrived: Instant::now(),
        user: Arc::new(UserInfo::default()),
        parts: Parts::new([""; 7]),
    };
    let series = Arc::new(SchemaSeries::of(&levels[at].name, "s"));
    Claim { levels: levels.clone(), at, flow: 1, claimed: Claimed { work: WorkEstimate::ONE, series, asked: Arc::new(asked), is_watch: false } }
}

fn wide(levels: &Arc<[Level]>, at: usize, work: WorkEstimate) -> Claim {
    let narrow = claim(levels, at);
    Claim { claimed: Claimed { work, ..narrow.claimed }, ..narrow }
}

fn taken(level: &Level) -> usize {
    level.room.taken.load(Relaxed)
}

#[tokio::test]
async fn a_full_level_borrows_what_is_lent_and_takes_nobodys_own_seats() {
    let levels: Arc<[Level]> = [level("a", 2, 0, None), level("b", 3, 2, None), level("c", 1, 0, None)].into();
    let mut seats = Vec::new();
    for _ in 0..4 {
        seats.push(claim(&levels, 0).seat().await.expect("two of its own, two that b lends"));
    }
    assert_eq!(claim(&levels, 0).seat().await.expect_err("all is lent").code, 429);
    let own = [claim(&levels, 1).seat().await, claim(&levels, 1).seat().await, claim(&levels, 1).seat().await];
    assert!(own.iter().all(Result::is_ok), "what b lent it still has");
    assert!(claim(&levels, 2).seat().await.is_ok());
    seats.clear();
    assert!(claim(&levels, 0).seat().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_may_wait_gets_the_next_free_seat_or_is_told_to_come_back() {
    let levels: Arc<[Level]> = [level("a", 1, 0, Some(Queuing { queues: 1, hand: 1, length: 1 }))].into();
    let first = claim(&levels, 0).seat().await.expect("is free");
    let claimed = claim(&levels, 0);
    let (second, third) = tokio::join!(claimed.clone().seat(), async {
        tokio::task::yield_now().await;
        let third = claimed.clone().seat().await;
        drop(first);
        third
    });
    let second = second.expect("the first one's");
    assert_eq!(third.expect_err("one waits already").message, "Too many requests, please try again later.");
    let began = Instant::now();
    assert_eq!(claim(&levels, 0).seat().await.expect_err("nobody leaves").code, 429);
    assert_eq!(began.elapsed(), PATIENCE);
    drop(second);
    assert!(claim(&levels, 0).seat().await.is_ok());
    assert_eq!(taken(&levels[0]), 0, "no seat is lost");
    let counts = &levels[0].room.counts;
    let count = |count: &std::sync::atomic::AtomicU64| count.load(Relaxed);
    assert_eq!((count(&counts.dispatched), count(&counts.rejected), count(&counts.timed_out), count(&counts.cancelled)), (3, 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_asks_for_everything_keeps_no_other_one_waiting() {
    let levels: Arc<[Level]> = [level("a", 4, 0, Some(Queuing { queues: 64, hand: 6, length: 50 }))].into();
    // Nine hundred clients of one flow hold each seat for a second, again and again.
    let greedy: Vec<_> = (0..900)
        .map(|_| {
            let levels = levels.clone();
            tokio::spawn(async move {
                loop {
                    let seat = claim(&levels, 0).seat().await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    drop(seat);
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(10)).await;
    for _ in 0..20 {
        let began = Instant::now();
        let seat = Claim { flow: 0xdead_beef_1234_5678, ..claim(&levels, 0) }.seat().await.expect("its turn comes");
        assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
        drop(seat);
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    greedy.iter().for_each(tokio::task::JoinHandle::abort);
    for task in greedy {
        let _ = task.await;
    }
    assert_eq!(taken(&levels[0]), 0, "no seat is lost");
    let state = levels[0].room.state.lock();
    assert_eq!((state.queues.waiting(), state.executing.len(), state.queues.all().len()), (0, 0, 0));
    assert!(levels[0].room.counts.cancelled.load(Relaxed) > 0, "who was ended while it waited");
}

#[tokio::test(start_paused = true)]
async fn wide_requests_take_many_seats_and_nobody_overtakes_them() {
    let levels: Arc<[Level]> = [level("a", 4, 0, Some(Queuing { queues: 8, hand: 1, length: 9 })), level("b", 9, 3, None)].into();
    let list = |initial: usize| WorkEstimate { initial, ..WorkEstimate::ONE };
    // Four of its own and the three that are lent.
    let first = wide(&levels, 0, list(6)).seat().await.expect("there is room");
    let narrow = claim(&levels, 0).seat().await.expect("one is left");
    assert_eq!(taken(&levels[0]), 7);
    // Its flow has no seats yet, so it comes first, and the other's one would fit in.
    let (waits, overtakes) = (Claim { flow: 2, ..wide(&levels, 0, list(5)) }, claim(&levels, 0));
    let waits = tokio::spawn(waits.seat());
    tokio::task::yield_now().await;
    let overtakes = tokio::spawn(overtakes.seat());
    drop(narrow);
    tokio::task::yield_now().await;
    assert!(!waits.is_finished() && !overtakes.is_finished());
    drop(first);
    let (waited, other) = (waits.await.expect("runs").expect("has room"), overtakes.await.expect("runs").expect("has room"));
    drop((waited, other));
    assert_eq!(taken(&levels[0]), 0);
    // What is wider than its level comes in alone.
    let widest = wide(&levels, 0, list(50)).seat().await.expect("is alone");
    assert_eq!(claim(&levels, 0).seat().await.expect_err("all is taken").code, 429);
    drop(widest);
}

#[tokio::test(start_paused = true)]
async fn a_write_leaves_its_seats_to_its_watchers_for_a_while() {
    let levels: Arc<[Level]> = [level("a", 4, 0, Some(Queuing { queues: 8, hand: 1, length: 9 }))].into();
    let work = WorkEstimate { initial: 1, last: 4, additional: Duration::from_millis(500) };
    let began = Instant::now();
    drop(wide(&levels, 0, work).seat().await.expect("is free"));
    assert_eq!((began.elapsed(), taken(&levels[0])), (Duration::ZERO, 4), "the client does not wait");
    assert!(levels[0].room.state.lock().executing.is_empty());
    drop(claim(&levels, 0).seat().await.expect("comes next"));
    assert_eq!(began.elapsed(), Duration::from_millis(500));
    assert_eq!(taken(&levels[0]), 0);
}
