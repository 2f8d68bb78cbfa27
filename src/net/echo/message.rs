//! The messages. Pure.

use crate::iptables::Family;

/// A message's head: type, code, checksum, identifier, sequence number.
const HEAD: usize = 8;
/// What is sent beside the head, and comes back: enough that no answer to somebody else is taken for ours.
const NONCE: usize = 8;

/// The types of a request and of its reply.
fn types(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (8, 0),
        Family::V6 => (128, 129),
    }
}

/// A request that carries this number. The kernel computes the checksum of IPv6.
pub fn request(family: Family, nonce: u64) -> Vec<u8> {
    let nonce = nonce.to_be_bytes();
    let mut message = vec![types(family).0, 0, 0, 0, nonce[0], nonce[1], 0, 1];
    message.extend(nonce);
    if family == Family::V4 {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// Whether what a raw socket received is the reply to the request with this number. Such a socket sees every message of its family; those of
/// IPv4 come with the packet's header.
pub fn answers(family: Family, received: &[u8], nonce: u64) -> bool {
    let header = match (family, received.first()) {
        (Family::V4, Some(first)) => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let message = received.get(header..).unwrap_or_default();
    let is_reply = message.first() == Some(&types(family).1) && message.get(1) == Some(&0);
    is_reply && message.get(HEAD..HEAD + NONCE) == Some(&nonce.to_be_bytes()[..])
}

/// The sum over a message of even length (RFC 1071).
fn checksum(message: &[u8]) -> u16 {
    let mut sum: u32 = message.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("was folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: u64 = 0x0102_0304_0506_0708;

    #[test]
    fn a_request_is_one_that_every_host_answers() {
        let four = request(Family::V4, NUMBER);
        assert_eq!(four[..2], [8, 0]);
        assert_eq!(four[4..], [1, 2, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(checksum(&four), 0, "whoever sums up a message with its checksum gets nothing");
        assert_eq!(request(Family::V6, NUMBER)[..4], [128, 0, 0, 0]);
    }

    #[test]
    fn only_the_reply_to_this_request_counts() {
        let mut reply = request(Family::V6, NUMBER);
        assert!(!answers(Family::V6, &reply, NUMBER), "it is the request");
        reply[0] = 129;
        assert!(answers(Family::V6, &reply, NUMBER));
        assert!(!answers(Family::V6, &reply, NUMBER + 1));
        assert!(!answers(Family::V6, &reply[..12], NUMBER));
        reply[0] = 0;
        // The header of IPv4 has options where it is longer than 20 bytes.
        for (first, length) in [(0x45, 20), (0x46, 24)] {
            let mut packet = vec![0; length];
            packet[0] = first;
            packet.extend(&reply);
            assert!(answers(Family::V4, &packet, NUMBER));
        }
        assert!(!answers(Family::V4, &[], NUMBER) && !answers(Family::V4, &[0x4f], NUMBER));
    }
}
