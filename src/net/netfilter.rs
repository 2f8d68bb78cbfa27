//! Messages to the parts of netfilter and what they answer, over netlink (`linux/netfilter/nfnetlink.h`). All of it blocks.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt},
        time::TimeVal,
    },
};

/// `NLM_F_REQUEST`, alone and with `NLM_F_DUMP` or `NLM_F_ACK`.
const ASKED: u16 = 0x001;
const DUMP: u16 = 0x301;
const ACKNOWLEDGED: u16 = 0x005;
/// `NLMSG_ERROR`, which is an acknowledgement too, and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Sizes of `nlmsghdr`, and of `nfgenmsg` behind it.
const HEADER: usize = 16;
const GENERIC: usize = 4;
/// What a kind of attribute is without the flags `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const KIND: u16 = 0x3fff;

/// How long the kernel may take to answer.
const PATIENCE: TimeVal = TimeVal::new(5, 0);

/// What a message is about: a part of netfilter and one of its kinds of messages, and a family of addresses (`AF_INET`) where that matters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topic {
    pub part: u8,
    pub kind: u8,
    pub family: Option<i32>,
}

/// A conversation, in the network namespace of the thread that opens it. One message is under way at a time.
pub(crate) struct Netfilter(OwnedFd);

impl Netfilter {
    pub fn open() -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)?;
        Ok(Netfilter(socket))
    }

    /// Hands `each` the attributes of every message of a listing.
    ///
    /// # Errors
    /// When the kernel does not answer, or refuses.
    pub fn list(&self, topic: Topic, attributes: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.tell(topic, DUMP, attributes)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = self.hear(&mut buffer)?;
            for (kind, body) in messages(&buffer[..length]) {
                if matches!(kind, DONE | ERROR) {
                    return refusal(body).map_or(Ok(()), |errno| Err(errno.into()));
                }
                each(body.get(GENERIC..).unwrap_or_default());
            }
        }
    }

    /// The attributes of the one message that answers.
    ///
    /// # Errors
    /// When the kernel does not answer, or refuses.
    pub fn ask(&self, topic: Topic) -> io::Result<Vec<u8>> {
        self.tell(topic, ASKED, &[])?;
        let mut buffer = [0; 4096];
        let length = self.hear(&mut buffer)?;
        match messages(&buffer[..length]).next() {
            Some((ERROR, body)) => Err(refusal(body).unwrap_or(Errno::EPROTO).into()),
            Some((_, body)) => Ok(body.get(GENERIC..).unwrap_or_default().to_vec()),
            None => Err(Errno::EPROTO.into()),
        }
    }

    /// Has something done.
    ///
    /// # Errors
    /// When the kernel does not answer, or refuses.
    pub fn order(&self, topic: Topic, attributes: &[u8]) -> io::Result<()> {
        self.tell(topic, ACKNOWLEDGED, attributes)?;
        let mut buffer = [0; 4096];
        loop {
            let length = self.hear(&mut buffer)?;
            let answer = messages(&buffer[..length]).find(|(kind, _)| *kind == ERROR);
            if let Some((_, body)) = answer {
                return refusal(body).map_or(Ok(()), |errno| Err(errno.into()));
            }
        }
    }

    fn tell(&self, topic: Topic, flags: u16, attributes: &[u8]) -> io::Result<()> {
        send(self.0.as_raw_fd(), &message(topic, flags, attributes), MsgFlags::empty())?;
        Ok(())
    }

    fn hear(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.as_raw_fd(), buffer, MsgFlags::empty())?)
    }
}

fn message(topic: Topic, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let family = topic.family.unwrap_or(libc::AF_UNSPEC);
    let length = u32::try_from(HEADER + GENERIC + attributes.len()).expect("what is told is short");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(u16::from_be_bytes([topic.part, topic.kind]).to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // The number of the message and its sender.
    message.extend([0_u8; 8]);
    // `nfgenmsg`: no version, no resource.
    message.extend([u8::try_from(family).expect("families have small numbers"), 0, 0, 0]);
    message.extend(attributes);
    message
}

/// The messages of an answer, each its kind and what comes behind its header.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// What the kernel refused with, if it did.
fn refusal(body: &[u8]) -> Option<Errno> {
    let code = i32::from_ne_bytes(*body.first_chunk()?);
    (code < 0).then(|| Errno::from_raw(-code))
}

/// An attribute of a message, or of another attribute.
pub(crate) struct Attribute<'a> {
    pub kind: u16,
    pub whole: &'a [u8],
    pub value: &'a [u8],
}

/// The attributes that these bytes are. What is broken ends them.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & KIND;
        let (whole, value) = (bytes.get(..length)?, bytes.get(4..length)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, whole, value })
    })
}

/// The value of the first attribute of this kind.
pub(crate) fn value(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|attribute| attribute.kind == kind).map(|attribute| attribute.value)
}

/// An attribute as it is written.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("what is told is short");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_part_its_kind_and_its_family() {
        let topic = Topic { part: 1, kind: 2, family: Some(libc::AF_INET) };
        let told = message(topic, ACKNOWLEDGED, &attribute(18, &[0, 7]));
        let read: Vec<_> = messages(&told).collect();
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].0, read[0].1[0]), (0x102, 2));
        assert_eq!(value(&read[0].1[GENERIC..], 18), Some([0, 7].as_slice()));
        assert_eq!(value(&read[0].1[GENERIC..], 17), None);
    }

    #[test]
    fn answers_are_read_message_by_message_and_broken_ones_end_them() {
        let mut answer = message(Topic { part: 1, kind: 1, family: None }, 0, &attribute(18, &[0, 7]));
        let refused = [20_u32.to_ne_bytes().to_vec(), ERROR.to_ne_bytes().to_vec(), vec![0; 10], (-libc::EPERM).to_ne_bytes().to_vec()].concat();
        answer.extend(&refused);
        let read: Vec<_> = messages(&answer).collect();
        assert_eq!(read.iter().map(|(kind, body)| (*kind, body.len())).collect::<Vec<_>>(), [(0x101, 12), (ERROR, 4)]);
        assert_eq!(refusal(read[1].1), Some(Errno::EPERM));
        assert_eq!(refusal(&0_i32.to_ne_bytes()), None);
        for length in [0, 3, 15, 19] {
            assert_eq!(messages(&refused[..length]).count(), 0, "{length}");
        }
        // A length that would lead nowhere.
        assert_eq!(attributes(&[0; 8]).count(), 0);
    }
}
