//! Whether somebody changed the packet filter or its sets since an earlier look: asked over netlink, which costs a thousandth of what reading them
//! with a program does. It blocks.

use std::{
    hash::{DefaultHasher, Hasher},
    io,
};

use crate::netfilter::{Netfilter, Topic, attribute, value};

/// `NFNL_SUBSYS_NFTABLES`, with `NFT_MSG_GETGEN` and `NFTA_GEN_ID` (`linux/netfilter/nf_tables.h`).
const NFTABLES: u8 = 10;
const GET_GENERATION: u8 = 16;
const GENERATION: u16 = 1;

/// `NFNL_SUBSYS_IPSET`, with `IPSET_CMD_LIST`, `IPSET_ATTR_PROTOCOL` and `IPSET_ATTR_SETNAME` (`linux/netfilter/ipset/ip_set.h`).
const SETS: u8 = 6;
const LIST: u8 = 7;
const PROTOCOL: u16 = 1;
const SET_NAME: u16 = 2;
/// All kernels speak it; new ones speak another one, too.
const VERSION: u8 = 6;

/// How many transactions nftables took in this network namespace, whoever made them, of whatever table and family.
///
/// # Errors
/// When the kernel has no nftables, or does not answer.
pub fn generation() -> io::Result<u64> {
    let answer = Netfilter::open()?.ask(Topic { part: NFTABLES, kind: GET_GENERATION, family: None })?;
    let number = value(&answer, GENERATION).and_then(|number| number.first_chunk::<4>());
    number.map(|number| u64::from(u32::from_be_bytes(*number))).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A digest of a set's listing, or of those of all sets: another one where an entry came or went.
///
/// # Errors
/// When there is no such set, the kernel has no sets, or it does not answer.
pub fn fingerprint(set: Option<&str>) -> io::Result<u64> {
    let mut asked = attribute(PROTOCOL, &[VERSION]);
    if let Some(name) = set {
        asked.extend(attribute(SET_NAME, &[name.as_bytes(), &[0]].concat()));
    }
    let mut listing = DefaultHasher::new();
    Netfilter::open()?.list(Topic { part: SETS, kind: LIST, family: None }, &asked, |told| listing.write(told))?;
    Ok(listing.finish())
}
