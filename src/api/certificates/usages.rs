//! Key usages by the names that the API gives them. Pure.

use thiserror::Error;

/// All usages that the API knows, in the order of their names.
pub const ALL: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// A usage that no certificate can carry.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("unrecognized usage values: [{0:?}]")]
pub struct UnknownUsage(pub String);

/// Usages as a certificate says them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usages {
    /// Bits of the key usage extension, bit 0 first.
    pub bits: [bool; 9],
    /// Object identifiers of the extended key usage extension.
    pub extended: Vec<&'static [u64]>,
}

impl Usages {
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownUsage> {
        let mut usages = Usages::default();
        for name in names {
            match (bit(name), extended(name)) {
                (Some(bit), _) => usages.bits[bit] = true,
                (_, Some(oid)) if !usages.extended.contains(&oid) => usages.extended.push(oid),
                (_, Some(_)) => {}
                _ => return Err(UnknownUsage(name.to_owned())),
            }
        }
        usages.extended.sort_unstable();
        Ok(usages)
    }

    /// The bit string of the key usage extension with its length; `None` without any bit.
    pub fn bit_string(&self) -> Option<([u8; 2], usize)> {
        let length = 1 + self.bits.iter().rposition(|set| *set)?;
        let mut bytes = [0_u8; 2];
        for (at, _) in self.bits.iter().enumerate().filter(|(_, set)| **set) {
            bytes[at / 8] |= 0x80 >> (at % 8);
        }
        Some((bytes, length))
    }
}

fn bit(name: &str) -> Option<usize> {
    let bit = match name {
        "signing" | "digital signature" => 0,
        "content commitment" => 1,
        "key encipherment" => 2,
        "data encipherment" => 3,
        "key agreement" => 4,
        "cert sign" => 5,
        "crl sign" => 6,
        "encipher only" => 7,
        "decipher only" => 8,
        _ => return None,
    };
    Some(bit)
}

fn extended(name: &str) -> Option<&'static [u64]> {
    let oid: &[u64] = match name {
        "any" => &[2, 5, 29, 37, 0],
        "server auth" => &[1, 3, 6, 1, 5, 5, 7, 3, 1],
        "client auth" => &[1, 3, 6, 1, 5, 5, 7, 3, 2],
        "code signing" => &[1, 3, 6, 1, 5, 5, 7, 3, 3],
        "email protection" | "s/mime" => &[1, 3, 6, 1, 5, 5, 7, 3, 4],
        "ipsec end system" => &[1, 3, 6, 1, 5, 5, 7, 3, 5],
        "ipsec tunnel" => &[1, 3, 6, 1, 5, 5, 7, 3, 6],
        "ipsec user" => &[1, 3, 6, 1, 5, 5, 7, 3, 7],
        "timestamping" => &[1, 3, 6, 1, 5, 5, 7, 3, 8],
        "ocsp signing" => &[1, 3, 6, 1, 5, 5, 7, 3, 9],
        "microsoft sgc" => &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3],
        "netscape sgc" => &[2, 16, 840, 1, 113_730, 4, 1],
        _ => return None,
    };
    Some(oid)
}
