//! Who leads, under client-go's name.

use troupe_api::metrics::{Collect, Family, Gauge};

static LEADS: Family<Gauge> = Family::new(
    "leader_election_master_status",
    "Gauge of if the reporting system is master of the relevant lease, 0 indicates backup, 1 indicates master. 'name' is the string used to identify the lease. Please make sure to group by name.",
    &["name"],
);

/// What candidates tell.
pub static COLLECTORS: [&dyn Collect; 1] = [&LEADS];

/// Whether this process leads by a lease.
pub(super) fn leads(lease: &str, leads: bool) {
    LEADS.with(&[lease]).set(f64::from(u8::from(leads)));
}
