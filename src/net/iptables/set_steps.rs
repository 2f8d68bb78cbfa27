//! The steps of a patch on sets, as text for `ipset`. Pure.

use std::fmt::Write;

use super::{Family, Patch};

/// How many entries a set may have.
const MOST_ENTRIES: usize = 1 << 20;

impl Patch {
    /// What sets need before rules may refer to them: they are there, with their new entries.
    pub fn sets_before(&self, family: Family) -> String {
        let mut out = String::new();
        let mut put = |line: std::fmt::Arguments<'_>| writeln!(out, "{line}").expect("writing to a string never fails");
        for (name, kind) in &self.create_sets {
            put(format_args!("create {name} {} family {} maxelem {MOST_ENTRIES}", kind.type_name(), family.set_name()));
            // One that was left over has entries of another time.
            put(format_args!("flush {name}"));
        }
        self.fill.iter().for_each(|member| put(format_args!("add {} {}", member.set, member.entry)));
        out
    }

    /// What leaves sets once the rules are in.
    pub fn sets_after(&self) -> String {
        let staying = self.drain.iter().filter(|member| !self.destroy_sets.contains(&member.set));
        staying.map(|member| format!("del {} {}\n", member.set, member.entry)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iptables::{Member, SetKind};

    #[test]
    fn sets_are_filled_before_rules_and_emptied_behind_them() {
        let member = |entry: &str| Member { set: "A".into(), entry: entry.into() };
        let patch = Patch {
            create_sets: [("A".into(), SetKind::Net)].into(),
            fill: [member("10.0.0.1")].into(),
            drain: [member("10.0.0.2"), Member { set: "B".into(), entry: "10.0.0.3".into() }].into(),
            destroy_sets: ["B".into()].into(),
            ..Patch::default()
        };
        assert_eq!(patch.sets_before(Family::V4), "create A hash:net family inet maxelem 1048576\nflush A\nadd A 10.0.0.1\n");
        assert_eq!(patch.sets_after(), "del A 10.0.0.2\n");
    }
}
