//! Which ids of this node pods may have: all from the second block on, or those that the user `kubelet` has below it (`/etc/subuid` and `/etc/subgid`,
//! as `getsubids` tells them).

use std::{io, process::Command};

use nix::unistd::User;
use troupe_cri::security::IdRange;

/// Ids of one pod where nothing else is said.
pub const USUAL: u32 = 65_536;
/// Ids come in blocks of these.
const BLOCK: u32 = 65_536;
/// Whose ids they are.
const USER: &str = "kubelet";
const PROGRAM: &str = "getsubids";

/// Ids of this node, in ranges of which each pod gets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeIds {
    first: u32,
    count: u32,
    per_pod: u32,
}

impl NodeIds {
    /// So many ids (`length`) from `first` on for as many pods, each with `per_pod`.
    ///
    /// # Errors
    /// When ranges would not begin where they have to, root's would be among them, or there are too few, in upstream's words.
    pub fn new(first: u32, length: u32, per_pod: u32, pods: u32) -> Result<Self, String> {
        if per_pod == 0 || !per_pod.is_multiple_of(BLOCK) {
            return Err(format!("kubelet user namespace length {per_pod} is not a multiple of {BLOCK}"));
        }
        if !first.is_multiple_of(per_pod) {
            return Err(format!("kubelet user assigned ID {first} is not a multiple of {per_pod}"));
        }
        if first < per_pod {
            return Err(format!("kubelet user assigned ID {first} must be greater or equal to {per_pod}"));
        }
        if !length.is_multiple_of(per_pod) {
            return Err(format!("kubelet user assigned IDs length {length} is not a multiple of {per_pod}"));
        }
        let count = length / per_pod;
        if count < pods {
            return Err(format!("kubelet user assigned IDs are not enough to support {pods} pods"));
        }
        if u64::from(first) + u64::from(length) > 1 << 32 {
            return Err(format!("kubelet user assigned IDs end beyond {}", u32::MAX));
        }
        Ok(NodeIds { first, count, per_pod })
    }

    /// Those of this machine. Blocking.
    ///
    /// # Errors
    /// As [`NodeIds::new`], and when it cannot be found out which they are.
    pub fn of_machine(per_pod: u32, pods: u32) -> Result<Self, String> {
        let found = assigned().map_err(|why| format!("kubelet mappings: {why}"))?;
        let (first, length) = found.unwrap_or_else(|| usual(per_pod));
        NodeIds::new(first, length, per_pod, pods)
    }

    /// How many ranges there are.
    pub fn count(self) -> u32 {
        self.count
    }

    /// The range at a place.
    pub fn range(self, place: u32) -> IdRange {
        IdRange { first: self.first + place * self.per_pod, length: self.per_pod }
    }

    /// The place of a range.
    ///
    /// # Errors
    /// When it is none of these, in upstream's words.
    pub fn place(self, range: IdRange) -> Result<u32, String> {
        let IdRange { first, length } = range;
        if length != self.per_pod {
            return Err(format!("wrong user namespace length {length}"));
        }
        if !first.is_multiple_of(self.per_pod) {
            return Err(format!("wrong user namespace offset specified {first}"));
        }
        let place = first.checked_sub(self.first).map(|ahead| ahead / self.per_pod).filter(|place| *place < self.count);
        place.ok_or_else(|| format!("id {first} is out of range"))
    }
}

/// All ids but those of the first range, in which the node's own users are: where they begin and how many whole ranges' there are.
fn usual(per_pod: u32) -> (u32, u32) {
    let all = (1_u64 << 32) - u64::from(per_pod);
    let whole = all - all % u64::from(per_pod.max(1));
    (per_pod, u32::try_from(whole).unwrap_or(u32::MAX))
}

/// What the user has, if there is one and a program that tells.
fn assigned() -> Result<Option<(u32, u32)>, String> {
    if User::from_name(USER).map_err(|error| error.to_string())?.is_none() {
        return Ok(None);
    }
    let Some(uids) = asked(&[USER])? else { return Ok(None) };
    let gids = asked(&["-g", USER])?;
    if gids.as_ref() != Some(&uids) {
        return Err(format!("mismatched subuids and subgids for user {USER:?}"));
    }
    parse(&uids).map(Some)
}

/// What the program says; `None` where there is none.
fn asked(arguments: &[&str]) -> Result<Option<String>, String> {
    let failed = |why: String| format!("error retrieving additional ids for user {USER:?}: {why}");
    match Command::new(PROGRAM).args(arguments).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
        Ok(output) if output.status.success() => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
        Ok(output) => Err(failed(output.status.to_string())),
    }
}

/// The first id and how many there are, of a line such as `0: kubelet 65536 2147483648`.
fn parse(text: &str) -> Result<(u32, u32), String> {
    let line = text.trim_matches('\n');
    if line.contains('\n') {
        return Err(format!("error parsing line {text:?}: it must contain only one line"));
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, _, first, length] = words[..] else { return Err(format!("invalid line {text:?}")) };
    let number = |word: &str| word.parse::<u32>().map_err(|error| format!("error parsing line {text:?}: {error}"));
    Ok((number(first)?, number(length)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_whole_ranges_beyond_the_nodes_own_users() {
        let why = |first, length, per_pod, pods| NodeIds::new(first, length, per_pod, pods).expect_err("refused");
        assert_eq!(why(65_536, 65_536, 1000, 1), "kubelet user namespace length 1000 is not a multiple of 65536");
        assert_eq!(why(1000, 65_536, 65_536, 1), "kubelet user assigned ID 1000 is not a multiple of 65536");
        assert_eq!(why(0, 65_536, 65_536, 1), "kubelet user assigned ID 0 must be greater or equal to 65536");
        assert_eq!(why(65_536, 1000, 65_536, 1), "kubelet user assigned IDs length 1000 is not a multiple of 65536");
        assert_eq!(why(65_536, 65_536, 65_536, 2), "kubelet user assigned IDs are not enough to support 2 pods");
        assert!(why(4_294_901_760, 131_072, 65_536, 2).starts_with("kubelet user assigned IDs end beyond"));
    }

    #[test]
    fn without_a_user_of_its_own_a_kubelet_has_all_but_the_first_range() {
        for per_pod in [65_536, 131_072, 3 * 65_536] {
            let (first, length) = usual(per_pod);
            let ids = NodeIds::new(first, length, per_pod, 110).expect("as many as pods");
            assert_eq!((ids.range(0).first, ids.place(ids.range(ids.count() - 1))), (per_pod, Ok(ids.count() - 1)));
        }
        assert_eq!(usual(65_536).1, 65_535 * 65_536);
    }

    #[test]
    fn ranges_have_places() {
        let ids = NodeIds::new(131_072, 3 * 65_536, 65_536, 3).expect("as many as pods");
        assert_eq!((ids.count(), ids.range(2)), (3, IdRange { first: 262_144, length: 65_536 }));
        let why = |first, length| ids.place(IdRange { first, length }).expect_err("refused");
        assert_eq!(why(131_072, 5), "wrong user namespace length 5");
        assert_eq!(why(131_073, 65_536), "wrong user namespace offset specified 131073");
        assert_eq!((why(65_536, 65_536), why(327_680, 65_536)), ("id 65536 is out of range".into(), "id 327680 is out of range".into()));
    }

    #[test]
    fn what_the_program_says_is_one_line_of_four_words() {
        assert_eq!(parse("0: kubelet 65536 2147483648\n"), Ok((65_536, 2_147_483_648)));
        assert!(parse("0: kubelet 1 2\n1: kubelet 3 4\n").expect_err("two lines").ends_with("it must contain only one line"));
        assert_eq!(parse("0: kubelet 1\n"), Err("invalid line \"0: kubelet 1\\n\"".into()));
        assert!(parse("0: kubelet 1 4294967296\n").is_err());
    }
}
