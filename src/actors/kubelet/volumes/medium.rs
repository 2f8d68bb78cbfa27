//! What the files of an `emptyDir` lie in, by its medium (upstream's `emptydir` plugin). Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{EmptyDirVolumeSource, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use troupe_cri::quantity;

const MEMORY: &str = "Memory";
/// Pages of the only size that the pod asks for; those of a size of its own have it behind a dash.
const HUGE_PAGES: &str = "HugePages";
/// The resources of huge pages begin with this; their size follows.
const RESOURCE: &str = "hugepages-";

/// A medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    Disk,
    Memory,
    /// Pages of so many bytes.
    HugePages(i64),
}

impl Medium {
    /// The medium of a volume of a pod.
    ///
    /// # Errors
    /// Why there is none such, as upstream words it.
    pub fn of(source: &EmptyDirVolumeSource, pod: &Pod) -> Result<Self, String> {
        match source.medium.as_deref().unwrap_or_default() {
            "" => Ok(Medium::Disk),
            MEMORY => Ok(Medium::Memory),
            medium => match sized(medium) {
                Some(size) => page_size(medium, size, pod).map(Medium::HugePages),
                None => Err(format!("unknown storage medium {medium:?}")),
            },
        }
    }
}

/// Whether a volume is a file system of its own, in memory.
pub fn is_mounted(source: &EmptyDirVolumeSource) -> bool {
    let medium = source.medium.as_deref().unwrap_or_default();
    medium == MEMORY || sized(medium).is_some()
}

/// The size that a medium of huge pages names, "" where it names none; `None` where it is another medium.
fn sized(medium: &str) -> Option<&str> {
    let size = medium.strip_prefix(HUGE_PAGES)?;
    if size.is_empty() { Some(size) } else { size.strip_prefix('-') }
}

/// The bytes of a page. A volume has pages that a container of its pod asks for, or the pod as a whole.
fn page_size(medium: &str, size: &str, pod: &Pod) -> Result<i64, String> {
    let asked = requests(pod).filter_map(|name| name.strip_prefix(RESOURCE)).map(bytes).collect::<Result<BTreeSet<i64>, _>>()?;
    let found = if medium == HUGE_PAGES {
        if asked.len() > 1 {
            return Err(format!("medium: {medium} can't be used if container requests multiple huge page sizes"));
        }
        asked.first().copied()
    } else {
        asked.get(&bytes(size)?).copied()
    };
    found.ok_or_else(|| format!("medium {medium}: hugePages storage requested, but there is no resource request for huge pages"))
}

fn bytes(size: &str) -> Result<i64, String> {
    let known = quantity::milli(size).and_then(|milli| i64::try_from(milli / 1000).ok());
    known.ok_or_else(|| "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned())
}

/// The names of all resources that are requested.
fn requests(pod: &Pod) -> impl Iterator<Item = &String> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| {
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let resources = containers.filter_map(|container| container.resources.as_ref()).chain(spec.resources.as_ref());
        resources.filter_map(|resources| resources.requests.as_ref()).flat_map(BTreeMap::<String, Quantity>::keys)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn medium(medium: &str, spec: &Value) -> Result<Medium, String> {
        let source = EmptyDirVolumeSource { medium: Some(medium.to_owned()), size_limit: None };
        let pod = json!({"spec": spec});
        Medium::of(&source, &serde_json::from_value(pod).expect("a pod"))
    }

    fn asking(pages: &[&str]) -> Value {
        let container = |pages: &&str| json!({"name": "c", "resources": {"requests": {*pages: "1Gi", "memory": "1Gi"}}});
        json!({"containers": pages.iter().map(container).collect::<Vec<_>>()})
    }

    #[test]
    fn a_volume_has_huge_pages_of_a_size_that_its_pod_asks_for() {
        let two = Ok(Medium::HugePages(2 << 20));
        assert_eq!(medium("HugePages", &asking(&["hugepages-2Mi"])), two);
        assert_eq!(medium("HugePages", &asking(&["hugepages-2Mi", "hugepages-2048Ki"])), two, "it is the same size");
        assert_eq!(medium("HugePages-2Mi", &asking(&["hugepages-1Gi", "hugepages-2Mi"])), two);
        let init = json!({"containers": [], "initContainers": [{"name": "i", "resources": {"requests": {"hugepages-1Gi": "1Gi"}}}]});
        assert_eq!(medium("HugePages", &init), Ok(Medium::HugePages(1 << 30)));
        let whole = json!({"containers": [], "resources": {"requests": {"hugepages-2Mi": "4Mi"}}});
        assert_eq!(medium("HugePages-2Mi", &whole), two);
        assert_eq!((medium("", &asking(&[])), medium("Memory", &asking(&[]))), (Ok(Medium::Disk), Ok(Medium::Memory)));
    }

    #[test]
    fn other_media_are_refused_as_upstream_words_it() {
        let why = "hugePages storage requested, but there is no resource request for huge pages";
        assert_eq!(medium("HugePages", &asking(&[])), Err(format!("medium HugePages: {why}")));
        assert_eq!(medium("HugePages-1Gi", &asking(&["hugepages-2Mi"])), Err(format!("medium HugePages-1Gi: {why}")));
        let several = medium("HugePages", &asking(&["hugepages-2Mi", "hugepages-1Gi"]));
        assert_eq!(several, Err("medium: HugePages can't be used if container requests multiple huge page sizes".to_owned()));
        for odd in ["HugePages-big", "HugePages-"] {
            assert!(medium(odd, &asking(&["hugepages-2Mi"])).expect_err("is no size").starts_with("quantities must match"));
        }
        for odd in ["HugePagesX", "Tape"] {
            assert_eq!(medium(odd, &asking(&["hugepages-2Mi"])), Err(format!("unknown storage medium {odd:?}")));
        }
    }

    #[test]
    fn what_is_in_memory_is_mounted() {
        let mounted = |medium: &str| is_mounted(&EmptyDirVolumeSource { medium: Some(medium.to_owned()), size_limit: None });
        assert!(["Memory", "HugePages", "HugePages-2Mi"].into_iter().all(mounted));
        assert!(!mounted("") && !mounted("Tape") && !is_mounted(&EmptyDirVolumeSource::default()));
    }
}
