//! Starts units.

use std::{rc::Rc, sync::Arc};

use actix::{Actor, Addr, Context, dev::channel::channel};

use super::{
    directory::{Control, Entry},
    host::{Guard, Host, Seat, Unit, UnitAddr, UnitContext},
    system::System,
    unit::Policy,
};

impl System {
    /// Starts a unit at `path` (`controllers/deployment`), built by `factory` now and after each failure. The unit at the
    /// longest existing prefix of the path is its parent. A unit that lives at this path already is stopped. Very many units share a policy.
    pub fn spawn<U: Unit>(
        &self,
        path: impl Into<Arc<str>>,
        policy: impl Into<Arc<Policy>>,
        factory: impl FnMut(&mut UnitContext<'_, U>) -> U + Send + 'static,
    ) -> UnitAddr<U> {
        let (path, policy): (Arc<str>, Arc<Policy>) = (path.into(), policy.into());
        self.stop(&path);
        let (sender, receiver) = channel::<Host<U>>(policy.mailbox.max(1));
        let addr = Addr::new(sender);
        // It lives until it is stopped, even when nobody else holds its address. Once it has ended, nothing is taken any more.
        let host = addr.clone();
        let control = move |control: Control| host.do_send(control);
        let full = std::any::type_name::<U>();
        let unit = full.split('<').next().and_then(|head| head.rsplit("::").next()).unwrap_or(full);
        let entry = Entry::new(path.clone(), unit, self.recorder().intern_shared(&path), Box::new(control));
        self.directory().insert(entry.clone());
        let system = self.clone();
        let seat_entry = entry.clone();
        self.placement().run(policy.group, &path, move || {
            let seat = Seat { system, entry: seat_entry, flags: Rc::default() };
            let host = Host::new(Box::new(factory), seat.clone());
            let context = Context::with_receiver(receiver).into_future(host);
            // Boxed: a task is aligned to pairs of cache lines, and what is as large as a host takes hundreds of bytes more for that.
            tokio::task::spawn_local(Box::pin(Guard::new(context, policy, seat)));
        });
        UnitAddr::new(addr, entry)
    }
}

/// Asserts at compile time that hosts are actors.
const _: fn() = || {
    fn actor<A: Actor>() {}
    struct Nothing;
    impl Unit for Nothing {}
    actor::<Host<Nothing>>();
};
