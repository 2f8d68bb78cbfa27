//! What waits in the lines of those it is for, who have turns: nobody waits for all that one of them has to do; within a line who came first is first.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// See the module.
#[derive(Debug)]
pub struct TurnQueue<T> {
    /// By whom they are for; none of them is empty.
    lines: HashMap<Arc<str>, VecDeque<T>>,
    /// Those who have a line, each once: the first has the next turn.
    turns: VecDeque<Arc<str>>,
    length: usize,
}

impl<T> Default for TurnQueue<T> {
    fn default() -> Self {
        TurnQueue { lines: HashMap::new(), turns: VecDeque::new(), length: 0 }
    }
}

impl<T> TurnQueue<T> {
    /// Lines something up.
    pub fn push(&mut self, behalf: &Arc<str>, item: T) {
        self.length += 1;
        if let Some(line) = self.lines.get_mut(behalf) {
            return line.push_back(item);
        }
        self.turns.push_back(behalf.clone());
        self.lines.insert(behalf.clone(), VecDeque::from([item]));
    }

    /// What [`Self::pop`] would take.
    pub fn front(&self) -> Option<&T> {
        self.lines.get(self.turns.front()?)?.front()
    }

    /// Takes the next: the first in the line whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let turn = self.turns.pop_front()?;
        let line = self.lines.get_mut(&turn).expect("who has a turn has a line");
        let item = line.pop_front().expect("no line is empty");
        if line.is_empty() {
            self.lines.remove(&turn);
        } else {
            self.turns.push_back(turn);
        }
        self.length -= 1;
        Some(item)
    }

    /// Takes something out of its line.
    pub fn remove(&mut self, behalf: &Arc<str>, item: &T)
    where
        T: PartialEq,
    {
        let Some(line) = self.lines.get_mut(behalf) else { return };
        let before = line.len();
        line.retain(|other| other != item);
        self.length -= before - line.len();
        if line.is_empty() {
            self.lines.remove(behalf);
            self.turns.retain(|turn| turn != behalf);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub fn len(&self) -> usize {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::ObjectKey;

    fn key(text: &str) -> ObjectKey {
        let (namespace, name) = text.split_once('/').expect("a namespace");
        ObjectKey::new(namespace, name)
    }

    fn push(line: &mut TurnQueue<ObjectKey>, key: ObjectKey) {
        line.push(&key.namespace.clone(), key);
    }

    fn remove(line: &mut TurnQueue<ObjectKey>, text: &str) {
        line.remove(&key(text).namespace, &key(text));
    }

    fn all(line: &mut TurnQueue<ObjectKey>) -> Vec<String> {
        std::iter::from_fn(|| line.pop()).map(|key| key.to_string()).collect()
    }

    #[test]
    fn a_namespace_with_much_to_do_leaves_others_their_turns() {
        let mut line = TurnQueue::default();
        ["many/a", "many/b", "many/c", "few/a", "other/a", "few/b"].map(key).into_iter().for_each(|key| push(&mut line, key));
        assert_eq!(line.len(), 6);
        assert_eq!((line.front().cloned(), line.pop()), (Some(key("many/a")), Some(key("many/a"))));
        // Who comes meanwhile is behind those whose turn comes.
        push(&mut line, key("late/a"));
        assert_eq!(all(&mut line), ["few/a", "other/a", "many/b", "late/a", "few/b", "many/c"]);
        assert_eq!((line.len(), line.pop()), (0, None));
    }

    #[test]
    fn who_leaves_the_line_is_not_waited_for() {
        let mut line = TurnQueue::default();
        ["a/1", "b/1", "a/2"].map(key).into_iter().for_each(|key| push(&mut line, key));
        remove(&mut line, "b/1");
        remove(&mut line, "c/1");
        remove(&mut line, "a/1");
        assert_eq!((line.len(), all(&mut line)), (1, vec!["a/2".to_owned()]));
    }
}
