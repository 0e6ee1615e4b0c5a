//! Variables in order of definition, found by name.

use super::lexer::Variables;
use std::collections::HashMap;

/// Names and values.
#[derive(Clone, Debug, Default)]
pub(super) struct Env {
    order: Vec<(String, String)>,
    index: HashMap<String, usize>,
    bytes: usize,
}

impl Env {
    /// Sets a variable; one that there is keeps its place.
    pub(super) fn set(&mut self, name: &str, value: String) {
        self.bytes += name.len() + value.len() + 1;
        match self.index.get(name) {
            Some(at) => {
                let (name, old) = &mut self.order[*at];
                self.bytes -= name.len() + old.len() + 1;
                *old = value;
            }
            None => {
                self.index.insert(name.to_owned(), self.order.len());
                self.order.push((name.to_owned(), value));
            }
        }
    }

    /// How much there is to copy.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + 64 * self.order.len()
    }

    pub(super) fn to_vec(&self) -> Vec<(String, String)> {
        self.order.clone()
    }
}

impl FromIterator<(String, String)> for Env {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Env {
        let mut env = Env::default();
        for (name, value) in pairs {
            env.set(&name, value);
        }
        env
    }
}

impl Variables for Env {
    fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|at| self.order[*at].1.as_str())
    }
}
