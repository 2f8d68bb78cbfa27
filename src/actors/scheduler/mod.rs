//! The scheduler: watches pods without a node, filters and scores nodes, binds.
//!
//! Pending pods come in through a watch, wait in a [`queue::SchedulingQueue`], and leave one by one: [`decide::decide`]
//! looks at an immutable [`snapshot::Snapshot`] and the plugins' answers. A bound pod counts on its node at once
//! ("assumed"), before the watch shows it there.

pub mod decide;
pub mod framework;
pub mod node_info;
pub mod plugins;
pub mod queue;
pub mod resources;
pub mod snapshot;
