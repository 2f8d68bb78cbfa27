//! Keys in line. Namespaces have turns, so that nobody waits for all that one of them has to do; within a namespace who came first is first.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, LazyLock},
};

use troupe_api::meta::ObjectKey;

/// What is worked on in turn.
pub trait InTurn {
    /// Whose turn it is worked on in: its namespace.
    fn turn(&self) -> &Arc<str>;
}

impl InTurn for ObjectKey {
    fn turn(&self) -> &Arc<str> {
        &self.namespace
    }
}

/// The turn of what is in no namespace, or does not say in which.
pub fn of_nobody() -> &'static Arc<str> {
    static NOBODY: LazyLock<Arc<str>> = LazyLock::new(Arc::default);
    &NOBODY
}

/// See the module.
#[derive(Debug)]
pub struct Line<K> {
    /// None of them is empty.
    lines: HashMap<Arc<str>, VecDeque<K>>,
    /// The namespaces in line, each once: the first has the next turn.
    turns: VecDeque<Arc<str>>,
    length: usize,
}

impl<K> Default for Line<K> {
    fn default() -> Self {
        Line { lines: HashMap::new(), turns: VecDeque::new(), length: 0 }
    }
}

impl<K: InTurn + Eq> Line<K> {
    /// Lines a key up.
    pub fn push(&mut self, key: K) {
        self.length += 1;
        if let Some(line) = self.lines.get_mut(key.turn()) {
            return line.push_back(key);
        }
        self.turns.push_back(key.turn().clone());
        self.lines.insert(key.turn().clone(), VecDeque::from([key]));
    }

    /// The next key: the first of the namespace whose turn it is.
    pub fn pop(&mut self) -> Option<K> {
        let turn = self.turns.pop_front()?;
        let line = self.lines.get_mut(&turn).expect("who has a turn has a line");
        let key = line.pop_front().expect("no line is empty");
        if line.is_empty() {
            self.lines.remove(&turn);
        } else {
            self.turns.push_back(turn);
        }
        self.length -= 1;
        Some(key)
    }

    /// Takes a key out of the line.
    pub fn remove(&mut self, key: &K) {
        let Some(line) = self.lines.get_mut(key.turn()) else { return };
        let before = line.len();
        line.retain(|other| other != key);
        self.length -= before - line.len();
        if line.is_empty() {
            self.lines.remove(key.turn());
            self.turns.retain(|turn| turn != key.turn());
        }
    }

    pub fn len(&self) -> usize {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ObjectKey {
        let (namespace, name) = text.split_once('/').expect("a namespace");
        ObjectKey::new(namespace, name)
    }

    fn all(line: &mut Line<ObjectKey>) -> Vec<String> {
        std::iter::from_fn(|| line.pop()).map(|key| key.to_string()).collect()
    }

    #[test]
    fn a_namespace_with_much_to_do_leaves_others_their_turns() {
        let mut line = Line::default();
        ["many/a", "many/b", "many/c", "few/a", "other/a", "few/b"].map(key).into_iter().for_each(|key| line.push(key));
        assert_eq!(line.len(), 6);
        assert_eq!(line.pop(), Some(key("many/a")));
        // Who comes meanwhile is behind those whose turn comes.
        line.push(key("late/a"));
        assert_eq!(all(&mut line), ["few/a", "other/a", "many/b", "late/a", "few/b", "many/c"]);
        assert_eq!((line.len(), line.pop()), (0, None));
    }

    #[test]
    fn who_leaves_the_line_is_not_waited_for() {
        let mut line = Line::default();
        ["a/1", "b/1", "a/2"].map(key).into_iter().for_each(|key| line.push(key));
        line.remove(&key("b/1"));
        line.remove(&key("c/1"));
        line.remove(&key("a/1"));
        assert_eq!((line.len(), all(&mut line)), (1, vec!["a/2".to_owned()]));
    }
}
