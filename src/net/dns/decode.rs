//! Messages as they come from the network.

use hickory_proto::op::Message;

const HEADER: usize = 12;
/// The shortest question: the root's name, a type, a class.
const QUESTION: usize = 5;
/// The shortest record: besides these a time to live and the length of nothing.
const RECORD: usize = 11;

/// Reads a message. One that announces more than its bytes can hold is none: room would be made for all of it.
pub fn decode(bytes: &[u8]) -> Option<Message> {
    let count = |at: usize| Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
    let (questions, records) = (count(4)?, count(6)? + count(8)? + count(10)?);
    if HEADER + questions * QUESTION + records * RECORD > bytes.len() {
        return None;
    }
    Message::from_vec(bytes).ok()
}

/// The records of a query at most: one for extensions, and signatures.
const MOST_RECORDS: usize = 4;

/// Reads a query, which has one question and next to no records. More would be read in vain, and names can be written so that each is long to
/// follow.
pub fn decode_query(bytes: &[u8]) -> Option<Message> {
    let count = |at: usize| Some(usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
    let (questions, records) = (count(4)?, count(6)? + count(8)? + count(10)?);
    if questions > 1 || records > MOST_RECORDS { None } else { decode(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_must_be_there() {
        let query = |questions: u16, records: u16| {
            let counts = [questions, 0, 0, records].map(u16::to_be_bytes).concat();
            [&[0, 7, 1, 0][..], &counts, &[0, 0, 1, 0, 1]].concat()
        };
        assert!(decode(&query(1, 0)).is_some());
        assert!(decode(&query(1, 1)).is_none());
        assert!(decode(&query(u16::MAX, u16::MAX)).is_none());
        assert!(decode(&query(1, 0)[..11]).is_none());
    }

    #[test]
    fn a_query_has_one_question_and_few_records() {
        let message = |questions: u16, records: u16| {
            let counts = [questions, 0, 0, records].map(u16::to_be_bytes).concat();
            // Of the root, type A; and addresses of the root.
            let (question, record) = ([0, 0, 1, 0, 1], [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1]);
            [&[0, 7, 1, 0][..], &counts, &question.repeat(questions.into()), &record.repeat(records.into())].concat()
        };
        assert!(decode_query(&message(1, 0)).is_some() && decode_query(&message(0, 0)).is_some());
        assert!(decode(&message(2, 0)).is_some() && decode_query(&message(2, 0)).is_none());
        assert!(decode(&message(1, 5)).is_some() && decode_query(&message(1, 5)).is_none());
        assert!(decode_query(&message(1, 4)).is_some());
    }
}
