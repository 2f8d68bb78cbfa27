//! How much room the store takes, under upstream's name.

use troupe_api::metrics::{Collect, Family, Gauge};

/// Upstream numbers the clusters of its stores; here there is one.
pub(super) const CLUSTER: &str = "etcd-0";

static SIZES: Family<Gauge> =
    Family::new("apiserver_storage_size_bytes", "Size of the storage database file physically allocated in bytes.", &["storage_cluster_id"]);

/// What is told of the size of the store.
pub static COLLECTORS: [&dyn Collect; 1] = [&SIZES];

/// A store takes so many bytes on the disk.
pub(super) fn takes(cluster: &str, bytes: u64) {
    SIZES.with(&[cluster]).set_count(usize::try_from(bytes).unwrap_or(usize::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_api::metrics::render;

    #[test]
    fn the_size_of_a_store_is_the_last_that_was_told() {
        takes("counted", 1 << 20);
        takes("counted", 4096);
        let page = render(&COLLECTORS);
        let page = std::str::from_utf8(&page).expect("text");
        assert!(page.contains("# TYPE apiserver_storage_size_bytes gauge\n"), "{page}");
        assert!(page.contains("apiserver_storage_size_bytes{storage_cluster_id=\"counted\"} 4096\n"), "{page}");
    }
}
