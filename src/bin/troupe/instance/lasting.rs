//! What a cluster was made with and keeps from one start to the next: the record says it where nobody else does, and what objects of the
//! cluster follow from cannot be said otherwise.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use ipnetwork::IpNetwork;

use super::find;
use crate::{
    config::{Part, PerFamily, Settings, flag, takes},
    state,
};

/// What the last start of an instance had.
#[derive(Debug, Default)]
pub struct Lasting {
    recorded: Settings,
    /// Objects follow from it that these parts have made.
    binds: bool,
}

impl Lasting {
    /// What lasts of the instance whose directories are given, as far as these parts take it. A cluster without state was never made.
    ///
    /// # Errors
    /// When the directories belong to two instances.
    pub fn of(given: &Settings, parts: &BTreeSet<Part>) -> Result<Self> {
        let Some(record) = find::of_place(&given.data_dir(), &given.run_dir())? else { return Ok(Lasting::default()) };
        let all = record.settings();
        let has_state = given.etcd_servers.is_some() || all.etcd_servers.is_some() || state::store_dir(&given.data_dir()).exists();
        if parts.contains(&Part::ApiServer) && !has_state {
            return Ok(Lasting::default());
        }
        let binds = parts.contains(&Part::ApiServer) || parts.contains(&Part::Controllers);
        Ok(Lasting { recorded: all.only(|setting| takes(parts, setting)), binds })
    }

    /// The same settings with the network that was before where they are silent.
    ///
    /// # Errors
    /// Naming the flag that says another range than the one that things have addresses of.
    pub fn with_network(&self, given: Settings) -> Result<Settings> {
        if self.binds {
            self.refuse_other_ranges(&given)?;
        }
        Ok(given.or_network_of(&self.recorded))
    }

    /// The same with the domain and the address of the cluster's DNS. They come behind what the kubelet's own files say of them.
    pub fn with_dns(&self, given: Settings) -> Settings {
        let first = |settings: &Settings| settings.service_cidr.map(|ranges| ranges.first());
        let follows = first(&given) == first(&self.recorded);
        Settings {
            cluster_domain: given.cluster_domain.or_else(|| self.recorded.cluster_domain.clone()),
            cluster_dns: given.cluster_dns.or(self.recorded.cluster_dns.filter(|_| follows)),
            ..given
        }
    }

    fn refuse_other_ranges(&self, given: &Settings) -> Result<()> {
        let ranges = [
            ("serviceCidr", given.service_cidr, self.recorded.service_cidr, false),
            // Nodes keep the parts that they have.
            ("podCidr", given.pod_cidr, self.recorded.pod_cidr, true),
        ];
        for (setting, given, known, may_widen) in ranges {
            let (Some(given), Some(known)) = (given, known) else { continue };
            if !goes_on(given, known, may_widen) {
                let option = flag(setting);
                bail!(
                    "{option} is {given}, but this cluster was made with {known}, and there are addresses of it: {option} can only get a second \
                     family behind what it has; leave it out, or make a new cluster (troupe down --purge)"
                );
            }
        }
        Ok(())
    }
}

/// Whether the ranges given are those known, with more behind.
fn goes_on(given: PerFamily<IpNetwork>, known: PerFamily<IpNetwork>, may_widen: bool) -> bool {
    let holds = |(given, known): (IpNetwork, IpNetwork)| {
        let is_same = (given.network(), given.prefix()) == (known.network(), known.prefix());
        is_same || (may_widen && given.prefix() < known.prefix() && given.contains(known.network()))
    };
    given.all().len() >= known.all().len() && given.iter().zip(known.iter()).all(holds)
}

#[cfg(test)]
mod tests {
    use std::{fs, net::IpAddr};

    use super::*;
    use crate::{
        durable,
        instance::{Daemon, NAME, Record},
    };

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        /// An instance that was started once.
        fn of(parts: &[Part], settings: Settings) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let place = Place { dir };
            fs::create_dir_all(place.here().data_dir().join("store")).expect("makes");
            let parts: BTreeSet<Part> = parts.iter().copied().collect();
            let config = settings.or(place.here()).resolve().expect("resolves");
            let settings = config.settings().only(|setting| takes(&parts, setting));
            let mut record = Record::new(config.data_dir.clone(), config.run_dir.clone()).expect("makes");
            record.daemons.insert("troupe".into(), Daemon { parts, settings });
            durable::write(&record.data_dir.join(NAME), &serde_json::to_vec(&record).expect("encodes")).expect("writes");
            place
        }

        fn here(&self) -> Settings {
            let dir = |name: &str| Some(self.dir.path().join(name));
            let node_ip = Some("192.0.2.1,2001:db8::1".parse().expect("addresses"));
            Settings { data_dir: dir("data"), run_dir: dir("run"), node_name: Some("one".into()), node_ip, ..Settings::default() }
        }

        /// The settings of a next start.
        fn again(&self, parts: &[Part], flags: Settings) -> Result<Settings, String> {
            let given = flags.or(self.here());
            let lasting = Lasting::of(&given, &parts.iter().copied().collect()).expect("one instance");
            lasting.with_network(given).map(|given| lasting.with_dns(given)).map_err(|error| error.to_string())
        }
    }

    fn ranges(services: &str, pods: &str) -> Settings {
        let range = |text: &str| (!text.is_empty()).then(|| text.parse().expect("ranges"));
        Settings { service_cidr: range(services), pod_cidr: range(pods), ..Settings::default() }
    }

    const SERVICES: &str = "10.90.0.0/16,fd00:90::/112";
    const PODS: &str = "10.200.0.0/16,fd00:200::/56";

    #[test]
    fn a_start_without_flags_has_the_network_of_the_one_before() {
        let made = Settings {
            node_cidr_mask_size_ipv4: Some(26),
            cluster_domain: Some("example.org".into()),
            cluster_dns: Some(IpAddr::from([10, 90, 0, 53])),
            bridge: Some("b0".into()),
            cni_conf_dir: Some("/c".into()),
            ..ranges(SERVICES, PODS)
        };
        let place = Place::of(&Part::WHOLE, made.clone());
        let again = place.again(&Part::WHOLE, Settings::default()).expect("goes on").resolve().expect("resolves").settings();
        let of = |settings: &Settings| (settings.service_cidr, settings.pod_cidr, settings.node_cidr_mask_size_ipv4, settings.cluster_dns);
        assert_eq!(of(&again), of(&made));
        assert_eq!((&again.cluster_domain, &again.bridge, &again.cni_conf_dir), (&made.cluster_domain, &made.bridge, &made.cni_conf_dir));
        assert_eq!(again.node_cidr_mask_size_ipv6, Some(64));
        // Flags win where things may change.
        let flags = Settings { cluster_domain: Some("example.com".into()), node_cidr_mask_size_ipv4: Some(25), ..Settings::default() };
        let changed = place.again(&Part::WHOLE, flags).expect("goes on");
        assert_eq!((changed.cluster_domain.as_deref(), changed.node_cidr_mask_size_ipv4), (Some("example.com"), Some(25)));
    }

    #[test]
    fn ranges_that_things_have_addresses_of_are_kept_or_the_flag_is_refused() {
        let place = Place::of(&Part::WHOLE, ranges(SERVICES, PODS));
        let refused = |flags: Settings| place.again(&Part::WHOLE, flags).expect_err("refused");
        assert!(refused(ranges("10.90.0.0/16", "")).starts_with("--service-cidr is 10.90.0.0/16, but"));
        assert!(refused(ranges("", "10.200.0.0/16")).starts_with("--pod-cidr is"));
        assert!(refused(ranges("", "10.201.0.0/16,fd00:200::/56")).contains(PODS));
        assert!(refused(ranges("fd00:90::/112,10.90.0.0/16", "")).starts_with("--service-cidr is"));
        assert!(place.again(&Part::WHOLE, ranges(SERVICES, PODS)).is_ok());
        assert!(place.again(&Part::WHOLE, ranges("", "10.200.0.0/14,fd00:200::/56")).is_ok(), "nodes' parts lie in the wider one");
        // What was never made can be made otherwise.
        fs::remove_dir(place.here().data_dir().join("store")).expect("removes");
        assert_eq!(place.again(&Part::WHOLE, ranges("10.1.0.0/16", "")).expect("works").pod_cidr, None);
    }

    #[test]
    fn a_second_family_comes_behind_the_first_with_one_flag_or_both() {
        let place = Place::of(&Part::WHOLE, ranges("10.90.0.0/16", "10.200.0.0/16"));
        for flags in [ranges(SERVICES, ""), ranges("", PODS), ranges(SERVICES, PODS)] {
            let config = place.again(&Part::WHOLE, flags).expect("grows").resolve().expect("resolves");
            assert_eq!(config.families().len(), 2);
            assert_eq!(
                (config.service_cidr.first().to_string(), config.pod_cidr.first().to_string()),
                ("10.90.0.0/16".into(), "10.200.0.0/16".into())
            );
            assert_eq!(config.cluster_dns, IpAddr::from([10, 90, 0, 10]));
        }
    }

    #[test]
    fn a_node_goes_on_as_before_or_as_it_is_told() {
        let parts = [Part::Node, Part::RemoteNode];
        let place = Place::of(&parts, ranges(SERVICES, PODS));
        let again = place.again(&parts, Settings::default()).expect("goes on");
        assert_eq!((again.service_cidr, again.pod_cidr), (ranges(SERVICES, PODS).service_cidr, ranges(SERVICES, PODS).pod_cidr));
        // The cluster may have become another one: that is not known here.
        let other = place.again(&parts, ranges("10.1.0.0/16", "10.2.0.0/16")).expect("works").resolve().expect("resolves");
        assert_eq!((other.families().len(), other.cluster_dns), (1, IpAddr::from([10, 1, 0, 10])));
    }
}
