//! What a webhook said, as long as it counts.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Answers that are remembered.
const MOST: usize = 4096;

/// Answers by the hash of what was asked; the oldest go first.
#[derive(Debug)]
pub struct Answers<T> {
    known: Mutex<Known<T>>,
}

#[derive(Debug)]
struct Known<T> {
    by_question: HashMap<[u8; 32], (T, Instant)>,
    order: VecDeque<[u8; 32]>,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Answers { known: Mutex::new(Known { by_question: HashMap::new(), order: VecDeque::new() }) }
    }
}

impl<T: Clone> Answers<T> {
    /// What was said, if it still counts.
    pub fn get(&self, question: &[u8; 32]) -> Option<T> {
        let known = self.known.lock();
        known.by_question.get(question).filter(|(_, until)| Instant::now() < *until).map(|(answer, _)| answer.clone())
    }

    /// Keeps an answer for a while.
    pub fn keep(&self, question: [u8; 32], answer: T, lasts: Duration) {
        if lasts.is_zero() {
            return;
        }
        let mut known = self.known.lock();
        if known.by_question.insert(question, (answer, Instant::now() + lasts)).is_none() {
            known.order.push_back(question);
        }
        while known.order.len() > MOST {
            let Some(oldest) = known.order.pop_front() else { return };
            known.by_question.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_count_for_a_while_and_few_are_kept() {
        let answers = Answers::default();
        answers.keep([1; 32], "yes", Duration::from_secs(60));
        answers.keep([2; 32], "no", Duration::ZERO);
        assert_eq!((answers.get(&[1; 32]), answers.get(&[2; 32])), (Some("yes"), None));
        for number in 0..MOST as u64 {
            let mut question = [7; 32];
            question[..8].copy_from_slice(&number.to_be_bytes());
            answers.keep(question, "x", Duration::from_secs(60));
        }
        assert_eq!(answers.get(&[1; 32]), None);
        assert_eq!(answers.known.lock().by_question.len(), MOST);
    }
}
