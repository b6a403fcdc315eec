//! A map from host patterns, asked with a host: most specific pattern first, without walking them.

use std::collections::HashMap;

use super::{HostPattern, Wildcard};

/// Values under host patterns.
#[derive(Clone, Debug)]
pub(crate) struct HostIndex<T> {
    exact: HashMap<Box<str>, T>,
    /// `*.x`, by `x`.
    one: HashMap<Box<str>, T>,
    /// `**.x`, by `x`.
    many: HashMap<Box<str>, T>,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            one: HashMap::new(),
            many: HashMap::new(),
        }
    }
}

impl<T> HostIndex<T> {
    /// The value under exactly this pattern, made if there is none.
    pub(crate) fn entry(&mut self, pattern: &HostPattern) -> &mut T
    where
        T: Default,
    {
        let map = match pattern.wildcard {
            Wildcard::None => &mut self.exact,
            Wildcard::One => &mut self.one,
            Wildcard::Many => &mut self.many,
        };
        map.entry(pattern.suffix.clone()).or_default()
    }

    /// Asks the values of the patterns that take `host`, most specific first, until one answers.
    pub(crate) fn find<'t, R>(
        &'t self,
        host: &str,
        mut ask: impl FnMut(&'t T) -> Option<R>,
    ) -> Option<R> {
        if let Some(answer) = self.exact.get(host).and_then(&mut ask) {
            return Some(answer);
        }
        if self.one.is_empty() && self.many.is_empty() {
            return None;
        }
        let mut first = true;
        let mut rest = host;
        loop {
            rest = rest.split_once('.').map_or("", |(_label, rest)| rest);
            // What `*` takes is one label: the first.
            let one = if first { self.one.get(rest) } else { None };
            let many = self.many.get(rest);
            if let Some(answer) = one.into_iter().chain(many).find_map(&mut ask) {
                return Some(answer);
            }
            if rest.is_empty() {
                return None;
            }
            first = false;
        }
    }
}
