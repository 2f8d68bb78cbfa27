//! Anchors of several bundles as one file. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use troupe_api::certificates::{pem, pem_blocks};

/// The anchors of all bundles in PEM, each once. Their order is one of a seed's own, so that nobody comes to rely on any.
pub fn united<'a>(bundles: impl Iterator<Item = &'a str>, seed: u64) -> String {
    let contents = bundles.flat_map(pem_blocks).map(|block| block.contents);
    let mut anchors: Vec<(u64, Vec<u8>)> = contents.map(|anchor| (place(&anchor, seed), anchor)).collect();
    anchors.sort_unstable();
    anchors.dedup();
    anchors.iter().map(|(_, anchor)| pem("CERTIFICATE", anchor)).collect()
}

fn place(anchor: &[u8], seed: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, anchor).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_anchor_stands_once_without_what_is_around_it() {
        let (one, two) = (pem("CERTIFICATE", b"one"), pem("CERTIFICATE", b"two"));
        let text = united([format!("# one\n{one}").as_str(), &format!("{two}{one}"), ""].into_iter(), 7);
        assert!(text == format!("{one}{two}") || text == format!("{two}{one}"), "{text}");
        assert_eq!(united(["nothing"].into_iter(), 7), "");
    }

    #[test]
    fn the_order_stays_with_the_seed_and_changes_with_it() {
        let all: Vec<String> = (0..16_u8).map(|number| pem("CERTIFICATE", &[number])).collect();
        let ordered = |seed: u64| united(all.iter().map(String::as_str), seed);
        let backwards = united(all.iter().rev().map(String::as_str), 1);
        assert_eq!(ordered(1), backwards);
        assert_ne!(ordered(1), ordered(2));
        assert_eq!(pem_blocks(&ordered(1)).len(), 16);
    }
}
