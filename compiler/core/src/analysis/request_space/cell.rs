//! One product: for each dimension of a request the values it may have, independent of the others.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use mesh_bundle::slice::{
    Condition, FieldMatch, PathPattern, PathPatternKind, Principal, StringMatch, StringMatchKind,
};

use super::language::{Language, Pattern};
use super::point::{FieldKind, Likely, Point};
use super::value_set::{Addresses, Choice, pick_method, pick_port};
use super::{CapExceeded, Changes, Repeated, effort, universe};

/// A product of dimensions.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    method: Choice<String>,
    port: Choice<u16>,
    path: Language,
    host: Language,
    /// The empty text is a peer without an identity.
    from: Language,
    client_ip: Addresses,
    peer_ip: Addresses,
    /// What is not here may be absent or anything.
    fields: BTreeMap<(FieldKind, String), Values>,
}

/// What the values of one name may be: for each of `some` there is a value in it, and every value is
/// in `every`. Absent means no values, and so needs `some` to be empty.
#[derive(Clone, Debug)]
struct Values {
    some: Vec<Language>,
    every: Language,
}

impl Values {
    fn everything() -> Self {
        Self {
            some: Vec::new(),
            every: Language::everything(),
        }
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            some: self.some.iter().chain(&other.some).cloned().collect(),
            every: self.every.and(&other.every),
        }
    }

    /// The other sets of values, in disjoint parts.
    fn complement(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        for (index, wanted) in self.some.iter().enumerate() {
            parts.push(Self {
                some: self.some.iter().take(index).cloned().collect(),
                every: wanted.complement(),
            });
        }
        if !self.every.is_everything() {
            let mut some = self.some.clone();
            some.push(self.every.complement());
            parts.push(Self {
                some,
                every: Language::everything(),
            });
        }
        parts
    }

    /// Whether some values satisfy it.
    fn is_possible(&self, kind: FieldKind) -> Result<bool, CapExceeded> {
        for wanted in &self.some {
            if wanted.and(&self.every).is_empty(universe_of(kind))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Values that satisfy it, each as short as can be; none when it cannot be satisfied.
    fn pick(&self, kind: FieldKind, find: Find) -> Result<Option<Vec<String>>, CapExceeded> {
        let universe = universe_of(kind);
        let mut values: Vec<String> = Vec::with_capacity(self.some.len());
        for wanted in &self.some {
            let language = wanted.and(&self.every);
            if values.iter().any(|value| language.contains(value)) {
                continue;
            }
            match find(&language, universe)? {
                Some(value) if value.is_empty() => {
                    // A value that is not empty reads better, where one will do.
                    let better = find(&language.and(&NOT_EMPTY), universe)?;
                    values.push(better.unwrap_or_default());
                }
                Some(value) => values.push(value),
                None => return Ok(None),
            }
        }
        Ok(Some(values))
    }

    fn contains(&self, values: &[String]) -> bool {
        self.some
            .iter()
            .all(|wanted| values.iter().any(|value| wanted.contains(value)))
            && values.iter().all(|value| self.every.contains(value))
    }
}

static NOT_EMPTY: LazyLock<Language> =
    LazyLock::new(|| Language::any_of(vec![Pattern::literal("", false)]).complement());

fn universe_of(kind: FieldKind) -> &'static Pattern {
    match kind {
        FieldKind::Header => &universe::HEADER,
        FieldKind::Cookie => &universe::COOKIE,
        FieldKind::Query | FieldKind::Claim => &universe::VALUE,
    }
}

impl Cell {
    pub(super) fn everything() -> Self {
        Self {
            method: Choice::everything(),
            port: Choice::everything(),
            path: Language::everything(),
            host: Language::everything(),
            from: Language::everything(),
            client_ip: Addresses::everything(),
            peer_ip: Addresses::everything(),
            fields: BTreeMap::new(),
        }
    }

    /// The requests for which one condition holds, as a union.
    pub(super) fn of_condition(
        condition: &Condition,
        repeated: Repeated,
    ) -> Result<Vec<Self>, CapExceeded> {
        Self::of_condition_or_its_opposite(condition, repeated, false)
    }

    fn of_condition_or_its_opposite(
        condition: &Condition,
        repeated: Repeated,
        negated: bool,
    ) -> Result<Vec<Self>, CapExceeded> {
        let language = |language: Language| {
            if negated {
                language.complement()
            } else {
                language
            }
        };
        let mut cell = Self::everything();
        match condition {
            Condition::Not(inner) => {
                return Self::of_condition_or_its_opposite(inner, repeated, !negated);
            }
            Condition::Method(methods) => {
                let methods = Choice::only(methods.iter().cloned());
                cell.method = if negated {
                    methods.complement()
                } else {
                    methods
                };
            }
            Condition::Port(ports) => {
                let ports = Choice::only(ports.iter().copied());
                cell.port = if negated { ports.complement() } else { ports };
            }
            Condition::Path(patterns) => cell.path = language(path_language(patterns)?),
            Condition::Host(patterns) => cell.host = language(host_language(patterns)?),
            Condition::From(who) => cell.from = language(caller_language(who)),
            Condition::ClientIp(networks) => {
                let set = Addresses::any_of(networks);
                cell.client_ip = if negated { set.complement() } else { set };
            }
            Condition::PeerIp(networks) => {
                let set = Addresses::any_of(networks);
                cell.peer_ip = if negated { set.complement() } else { set };
            }
            Condition::Header(field) => {
                return fields(FieldKind::Header, field, repeated, negated);
            }
            Condition::Query(field) => return fields(FieldKind::Query, field, repeated, negated),
            Condition::Cookie(field) => return fields(FieldKind::Cookie, field, repeated, negated),
            Condition::Claim(field) => return fields(FieldKind::Claim, field, repeated, negated),
        }
        Ok(vec![cell])
    }

    /// Without what it says about the caller. A product has no empty dimension, so none is lost.
    pub(super) fn whoever_calls(&self) -> Self {
        Self {
            from: Language::everything(),
            ..self.clone()
        }
    }

    /// Without what changes on the way from one proxy to the next: who calls, from where, to which port, with which
    /// claims, and whatever is named. A product has no empty dimension, so none is lost.
    pub(super) fn sent_on(&self, changes: &Changes<'_>) -> Self {
        let mut cell = Self {
            method: self.method.clone(),
            fields: self.fields.clone(),
            ..Self::everything()
        };
        if !changes.path {
            cell.path = self.path.clone();
        }
        if !changes.host {
            cell.host = self.host.clone();
        }
        cell.fields.retain(|(kind, name), _| match kind {
            FieldKind::Claim => false,
            FieldKind::Header => !(changes.header)(name),
            FieldKind::Cookie => !(changes.header)("cookie"),
            FieldKind::Query => true,
        });
        cell
    }

    /// Whether some dimension leaves nothing to choose.
    pub(super) fn is_empty(&self) -> Result<bool, CapExceeded> {
        if self.method.is_empty()
            || self.port.is_empty()
            || self.client_ip.is_empty()
            || self.peer_ip.is_empty()
        {
            return Ok(true);
        }
        for (language, universe) in self.languages() {
            if !language.is_everything() && language.is_empty(universe)? {
                return Ok(true);
            }
        }
        for ((kind, _), values) in &self.fields {
            if !values.is_possible(*kind)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn languages(&self) -> [(&Language, &'static Pattern); 3] {
        // Callers and hosts are mostly literal, and so the quickest to rule out.
        [
            (&self.from, &universe::CALLER),
            (&self.host, &universe::HOST),
            (&self.path, &universe::PATH),
        ]
    }

    /// The requests of both; none if there are none.
    pub(super) fn and(&self, other: &Self) -> Result<Option<Self>, CapExceeded> {
        effort::spend(effort::STEPS_OF_PRODUCT)?;
        if self.path.is_apart(&other.path)
            || self.from.is_apart(&other.from)
            || self.host.is_apart(&other.host)
        {
            return Ok(None);
        }
        let mut fields = self.fields.clone();
        for (name, theirs) in &other.fields {
            let both = fields
                .get(name)
                .map_or_else(|| theirs.clone(), |mine| mine.and(theirs));
            fields.insert(name.clone(), both);
        }
        let both = Self {
            method: self.method.and(&other.method),
            port: self.port.and(&other.port),
            path: self.path.and(&other.path),
            host: self.host.and(&other.host),
            from: self.from.and(&other.from),
            client_ip: self.client_ip.and(&other.client_ip),
            peer_ip: self.peer_ip.and(&other.peer_ip),
            fields,
        };
        Ok((!both.is_empty()?).then_some(both))
    }

    /// The requests of this one that are not in the other, in disjoint parts: one for each dimension
    /// that the other restricts.
    pub(super) fn without(&self, other: &Self) -> Result<Vec<Self>, CapExceeded> {
        if self.and(other)?.is_none() {
            return Ok(vec![self.clone()]);
        }
        let mut parts = Vec::new();
        let mut rest = self.clone();
        for restriction in other.restrictions() {
            for opposite in restriction.complement() {
                parts.extend(rest.and(&opposite)?);
            }
            match rest.and(&restriction)? {
                Some(both) => rest = both,
                None => break,
            }
        }
        Ok(parts)
    }

    /// The dimensions that it restricts, each as a product of its own.
    fn restrictions(&self) -> Vec<Self> {
        let mut restrictions = Vec::new();
        let mut push = |change: &dyn Fn(&mut Self)| {
            let mut cell = Self::everything();
            change(&mut cell);
            restrictions.push(cell);
        };
        if !self.method.is_everything() {
            push(&|cell| cell.method = self.method.clone());
        }
        if !self.port.is_everything() {
            push(&|cell| cell.port = self.port.clone());
        }
        if !self.path.is_everything() {
            push(&|cell| cell.path = self.path.clone());
        }
        if !self.host.is_everything() {
            push(&|cell| cell.host = self.host.clone());
        }
        if !self.from.is_everything() {
            push(&|cell| cell.from = self.from.clone());
        }
        if !self.client_ip.is_everything() {
            push(&|cell| cell.client_ip = self.client_ip.clone());
        }
        if !self.peer_ip.is_everything() {
            push(&|cell| cell.peer_ip = self.peer_ip.clone());
        }
        for (name, values) in &self.fields {
            push(&|cell| {
                cell.fields.insert(name.clone(), values.clone());
            });
        }
        restrictions
    }

    /// What a product with one restricted dimension leaves out.
    fn complement(&self) -> Vec<Self> {
        let mut opposite = Self::everything();
        if !self.method.is_everything() {
            opposite.method = self.method.complement();
        } else if !self.port.is_everything() {
            opposite.port = self.port.complement();
        } else if !self.path.is_everything() {
            opposite.path = self.path.complement();
        } else if !self.host.is_everything() {
            opposite.host = self.host.complement();
        } else if !self.from.is_everything() {
            opposite.from = self.from.complement();
        } else if !self.client_ip.is_everything() {
            opposite.client_ip = self.client_ip.complement();
        } else if !self.peer_ip.is_everything() {
            opposite.peer_ip = self.peer_ip.complement();
        } else if let Some((name, values)) = self.fields.first_key_value() {
            return values
                .complement()
                .into_iter()
                .map(|values| Self::with_field(name.clone(), values))
                .collect();
        } else {
            return Vec::new();
        }
        vec![opposite]
    }

    fn with_field(name: (FieldKind, String), values: Values) -> Self {
        Self {
            fields: BTreeMap::from([(name, values)]),
            ..Self::everything()
        }
    }

    pub(super) fn contains(&self, point: &Point) -> bool {
        let no_values = Vec::new();
        self.method.contains(&point.method)
            && self.port.contains(&point.port)
            && self.path.contains(&point.path)
            && self.host.contains(&point.host)
            && self
                .from
                .contains(point.from.as_deref().unwrap_or_default())
            && self.client_ip.contains(point.client_ip)
            && self.peer_ip.contains(point.peer_ip)
            && self
                .fields
                .iter()
                .all(|(name, values)| values.contains(point.fields.get(name).unwrap_or(&no_values)))
    }

    /// One of its requests; none if it is empty.
    pub(super) fn pick(&self, likely: &Likely) -> Result<Option<Point>, CapExceeded> {
        self.pick_with(likely, Language::shortest)
    }

    /// One of its requests, where one is found without a search.
    pub(super) fn guess(&self, likely: &Likely) -> Option<Point> {
        let find: Find = |language, universe| {
            // Of every text the shortest is at hand.
            if language.is_everything() {
                return language.shortest(universe);
            }
            Ok(language.example(universe).map(ToOwned::to_owned))
        };
        self.pick_with(likely, find).ok().flatten()
    }

    fn pick_with(&self, likely: &Likely, find: Find) -> Result<Option<Point>, CapExceeded> {
        let mut fields = BTreeMap::new();
        for (name, wanted) in &self.fields {
            match wanted.pick(name.0, find)? {
                Some(values) if values.is_empty() => {}
                Some(values) => {
                    fields.insert(name.clone(), values);
                }
                None => return Ok(None),
            }
        }
        let path = choose(&self.path, &likely.paths, &universe::PATH, find)?;
        let host = choose(&self.host, &likely.hosts, &universe::HOST, find)?;
        let from = choose(&self.from, &likely.callers, &universe::CALLER, find)?;
        let point = || {
            Some(Point {
                method: pick_method(&self.method)?,
                host: host?,
                path: path?,
                port: pick_port(&self.port)?,
                from: Some(from?).filter(|from| !from.is_empty()),
                client_ip: self.client_ip.pick()?,
                peer_ip: self.peer_ip.pick()?,
                fields,
            })
        };
        Ok(point())
    }
}

/// How a text of a set is found.
type Find = fn(&Language, &Pattern) -> Result<Option<String>, CapExceeded>;

fn choose(
    language: &Language,
    likely: &[String],
    universe: &Pattern,
    find: Find,
) -> Result<Option<String>, CapExceeded> {
    match likely.iter().find(|text| language.contains(text)) {
        Some(text) => Ok(Some(text.clone())),
        None => find(language, universe),
    }
}

/// The requests whose values of one name fit, or do not.
///
/// The quantifier stands outside of `not`: in a `match`, `not { header x "1" }` asks for a value that
/// is not `1` or for no value at all; in an `allow`, for no value that is `1`.
fn fields(
    kind: FieldKind,
    field: &FieldMatch,
    repeated: Repeated,
    negated: bool,
) -> Result<Vec<Cell>, CapExceeded> {
    let name = (kind, field.name.clone());
    let fitting = value_language(&field.values)?;
    let one_of = |language: Language| Values {
        some: vec![language],
        every: Language::everything(),
    };
    let every_of = |language: Language| Values {
        every: language,
        ..Values::everything()
    };
    // A claim with several values is a set, of which one is enough everywhere.
    let values = match (repeated, negated) {
        (_, true) if kind == FieldKind::Claim => vec![every_of(fitting.complement())],
        (_, false) if kind == FieldKind::Claim => vec![one_of(fitting)],
        (Repeated::One, false) => vec![one_of(fitting)],
        (Repeated::Every, false) => vec![one_of(fitting.clone()).and(&every_of(fitting))],
        (Repeated::One, true) => vec![every_of(Language::nothing()), one_of(fitting.complement())],
        (Repeated::Every, true) => vec![every_of(fitting.complement())],
    };
    Ok(values
        .into_iter()
        .map(|values| Cell::with_field(name.clone(), values))
        .collect())
}

fn path_language(patterns: &[PathPattern]) -> Result<Language, CapExceeded> {
    let pattern = |pattern: &PathPattern| match &pattern.kind {
        PathPatternKind::Template(text) => Pattern::template(text, pattern.ignore_case),
        PathPatternKind::Regex(text) => Pattern::regex(text, pattern.ignore_case),
    };
    Ok(Language::any_of(
        patterns.iter().map(pattern).collect::<Result<_, _>>()?,
    ))
}

fn host_language(patterns: &[String]) -> Result<Language, CapExceeded> {
    let pattern = |text: &String| {
        let text = text.to_ascii_lowercase();
        let text = text.strip_suffix('.').unwrap_or(&text);
        if text == "**" {
            Ok(Pattern::prefix("", false))
        } else if let Some(rest) = text.strip_prefix("**.") {
            Pattern::regex(
                &format!(r"[^.]+(?:\.[^.]+)*\.{}", escape(rest, false)),
                false,
            )
        } else if let Some(rest) = text.strip_prefix("*.") {
            Pattern::regex(&format!(r"[^.]+\.{}", escape(rest, false)), false)
        } else if text == "*" {
            Pattern::regex("[^.]+", false)
        } else {
            Ok(Pattern::literal(text, false))
        }
    };
    Ok(Language::any_of(
        patterns.iter().map(pattern).collect::<Result<_, _>>()?,
    ))
}

fn caller_language(who: &[Principal]) -> Language {
    let pattern = |who: &Principal| match who {
        Principal::SpiffeId(id) => Pattern::literal(id.as_str(), false),
        Principal::SpiffePrefix(prefix) => Pattern::prefix(prefix, false),
        // The universe has identities and the empty text only.
        Principal::Any => Pattern::prefix("spiffe://", false),
        Principal::Unauthenticated => Pattern::literal("", false),
    };
    Language::any_of(who.iter().map(pattern).collect())
}

/// Values that fit one of the patterns; any value where there is no pattern.
fn value_language(patterns: &[StringMatch]) -> Result<Language, CapExceeded> {
    if patterns.is_empty() {
        return Ok(Language::any_of(vec![Pattern::prefix("", false)]));
    }
    let pattern = |each: &StringMatch| match &each.kind {
        StringMatchKind::Exact(text) => Ok(Pattern::literal(text, each.ignore_case)),
        StringMatchKind::Prefix(text) => Ok(Pattern::prefix(text, each.ignore_case)),
        StringMatchKind::Suffix(text) => {
            Pattern::regex(&format!("(?s:.*){}", escape(text, each.ignore_case)), false)
        }
        StringMatchKind::Contains(text) => Pattern::regex(
            &format!("(?s:.*){}(?s:.*)", escape(text, each.ignore_case)),
            false,
        ),
        StringMatchKind::Regex(text) => Pattern::regex(text, each.ignore_case),
    };
    Ok(Language::any_of(
        patterns.iter().map(pattern).collect::<Result<_, _>>()?,
    ))
}

/// The text as a regular expression. Case is ignored for ASCII letters only, as the engine does.
fn escape(text: &str, ignore_case: bool) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for letter in text.chars() {
        if ignore_case && letter.is_ascii_alphabetic() {
            escaped.extend([
                '[',
                letter.to_ascii_lowercase(),
                letter.to_ascii_uppercase(),
                ']',
            ]);
        } else {
            if letter.is_ascii_punctuation() {
                escaped.push('\\');
            }
            escaped.push(letter);
        }
    }
    escaped
}
