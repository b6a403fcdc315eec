//! Holds nodes against their declarations: reports what does not fit, and gives decoders the rest.

use mesh_syntax::{Arg, Diagnostic, Edit, Node, Prop, SourceSet, Span, Value, code as syntax_code};

use super::{Argument, KEYWORDS, Keyword, LATER, Place, Property, Repeats, words_in};
use crate::code;
use crate::limits;
use crate::model::Spanned;
use crate::suggest;
use crate::value::{Kind, Read, Wrong};

/// Collects findings while nodes become declarations.
#[derive(Debug)]
pub(crate) struct Reader<'s> {
    sources: &'s SourceSet,
    findings: Vec<Diagnostic>,
}

/// A node that has a declaration; what is wrong with its values was reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'n> {
    pub(crate) keyword: &'static Keyword,
    pub(crate) node: &'n Node,
}

impl<'n> Entry<'n> {
    /// The word.
    pub(crate) const fn word(&self) -> &'static str {
        self.keyword.name
    }

    /// The whole node.
    pub(crate) const fn span(&self) -> Span {
        self.node.span
    }

    /// The argument at a position, if it is of its kind.
    pub(crate) fn arg<T>(&self, index: usize, read: Read<T>) -> Option<Spanned<T>> {
        let arg = self.node.args.get(index)?;
        read(&arg.value)
            .ok()
            .map(|value| Spanned::new(value, arg.span))
    }

    /// The arguments from a position on that are of their kind.
    pub(crate) fn args<T>(&self, from: usize, read: Read<T>) -> Vec<Spanned<T>> {
        (from..self.node.args.len())
            .filter_map(|index| self.arg(index, read))
            .collect()
    }

    /// A property, if it is of its kind.
    pub(crate) fn prop<T>(&self, name: &str, read: Read<T>) -> Option<Spanned<T>> {
        let prop = self.node.prop(name)?;
        read(&prop.value)
            .ok()
            .map(|value| Spanned::new(value, prop.value_span))
    }

    /// Its word and values, without properties and block.
    pub(crate) fn head(&self) -> Span {
        let name = self.node.name.span;
        self.node
            .args
            .last()
            .map_or(name, |last| name.to(last.span))
    }

    /// Every property that is a label.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &'n Prop> + '_ {
        self.node.props.iter().filter(|prop| {
            self.keyword
                .props
                .iter()
                .all(|declared| declared.name != prop.name.text)
        })
    }
}

impl<'s> Reader<'s> {
    pub(crate) const fn new(sources: &'s SourceSet) -> Self {
        Self {
            sources,
            findings: Vec::new(),
        }
    }

    pub(crate) fn into_findings(self) -> Vec<Diagnostic> {
        self.findings
    }

    pub(crate) fn report(&mut self, finding: Diagnostic) {
        // One more than are shown, so that it is seen that there are more.
        if self.findings.len() <= limits::FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    /// The nodes of a place that its words declare. The rest is reported and left out.
    pub(crate) fn entries<'n>(&mut self, nodes: &'n [Node], place: Place) -> Vec<Entry<'n>> {
        let mut entries: Vec<Entry<'n>> = Vec::new();
        for node in nodes {
            let Some(keyword) = words_in(place).find(|keyword| keyword.name == node.name.text)
            else {
                self.unknown_word(node, place);
                continue;
            };
            if keyword.repeats == Repeats::Once
                && let Some(first) = entries.iter().find(|entry| entry.word() == keyword.name)
            {
                let first = first.node.name.span;
                self.given_twice(node, first);
                continue;
            }
            let entry = Entry { keyword, node };
            self.check(entry);
            entries.push(entry);
        }
        entries
    }

    /// The entries of a node's own block.
    pub(crate) fn block<'n>(&mut self, entry: Entry<'n>) -> Vec<Entry<'n>> {
        match entry.keyword.block {
            Some(place) => self.entries(&entry.node.children, place),
            None => Vec::new(),
        }
    }

    /// The place of `none`, where that is what a setting says; it goes with nothing else.
    pub(crate) fn none(&mut self, entry: Entry<'_>) -> Option<Span> {
        let is_none = |arg: &&Arg| arg.value == Value::Word("none".to_owned());
        let none = entry.node.args.iter().find(is_none)?.span;
        if entry.node.args.len() > 1 || !entry.node.props.is_empty() || entry.node.has_block {
            self.report(
                Diagnostic::error(
                    code::EXCLUSIVE,
                    none,
                    format!("`{} none` is not combined with anything else", entry.word()),
                )
                .help("`none` takes away what other levels say; remove it, or the rest"),
            );
        }
        Some(none)
    }

    fn given_twice(&mut self, node: &Node, first: Span) {
        self.report(
            Diagnostic::error(
                syntax_code::DUPLICATE_SETTING,
                node.name.span,
                format!("`{}` is given twice", node.name.text),
            )
            .at("the second time")
            .label(first, "the first time")
            .help("keep one: a setting has one value at one level"),
        );
    }

    fn unknown_word(&mut self, node: &Node, place: Place) {
        let word = node.name.text.as_str();
        let span = node.name.span;
        if LATER
            .iter()
            .any(|later| later.name == word && later.stands.contains(&place))
        {
            self.report(not_in_this_release(span, &format!("`{word}`")));
            return;
        }
        let elsewhere: Vec<&str> = places_of(word).map(Place::describe).collect();
        let near = suggest::nearest(word, words_in(place).map(|keyword| keyword.name));
        let finding = if elsewhere.is_empty() {
            Diagnostic::error(code::UNKNOWN_WORD, span, format!("unknown word `{word}`"))
        } else {
            let message = format!("`{word}` can't stand {}", place.describe());
            Diagnostic::error(code::UNKNOWN_WORD, span, message)
        };
        self.report(match near {
            Some(near) => finding
                .help(format!("did you mean `{near}`?"))
                .fix(format!("write `{near}`"), vec![Edit::new(span, near)]),
            None if elsewhere.is_empty() => finding.help(format!(
                "{} stand {}",
                place.describe(),
                list(words_in(place).map(|keyword| keyword.name))
            )),
            None => finding.help(format!("it stands {}", elsewhere.join(", "))),
        });
    }

    fn check(&mut self, entry: Entry<'_>) {
        self.check_args(entry);
        for prop in &entry.node.props {
            self.check_prop(entry, prop);
        }
        self.check_required(entry);
        if entry.keyword.block.is_none() && entry.node.has_block {
            let span = entry.node.name.span;
            self.report(
                Diagnostic::error(
                    code::UNKNOWN_WORD,
                    span,
                    format!("`{}` has no block", entry.word()),
                )
                .help("remove the braces and what is between them"),
            );
        }
    }

    fn check_args(&mut self, entry: Entry<'_>) {
        let args = &entry.node.args;
        if args.len() > limits::ARGUMENTS_MAX {
            let message = format!(
                "`{}` has more than {} values",
                entry.word(),
                limits::ARGUMENTS_MAX
            );
            self.report(Diagnostic::error(
                syntax_code::LIMIT_EXCEEDED,
                entry.node.name.span,
                message,
            ));
            return;
        }
        for (index, arg) in args.iter().enumerate() {
            let Some(declared) = entry.keyword.args.at(index) else {
                self.too_many(entry, arg);
                return;
            };
            let what = format!("`{}` can't take", entry.word());
            self.check_value(declared.kind, &arg.value, arg.span, &what);
        }
    }

    fn too_many(&mut self, entry: Entry<'_>, arg: &Arg) {
        let takes = match entry.keyword.args.leading.len() {
            0 => "takes no value".to_owned(),
            1 => "takes one value".to_owned(),
            several => format!("takes {several} values"),
        };
        self.report(
            Diagnostic::error(
                code::WRONG_TYPE,
                arg.span,
                format!("`{}` {takes}", entry.word()),
            )
            .at("one too many"),
        );
    }

    fn check_prop(&mut self, entry: Entry<'_>, prop: &Prop) {
        let name = prop.name.text.as_str();
        if let Some(declared) = entry
            .keyword
            .props
            .iter()
            .find(|declared| declared.name == name)
        {
            self.check_value(declared.kind, &prop.value, prop.value_span, &property(name));
        } else if let Some(kind) = entry.keyword.labels {
            self.check_value(kind, &prop.value, prop.value_span, &property(name));
        } else {
            self.unknown_prop(entry, prop);
        }
    }

    fn unknown_prop(&mut self, entry: Entry<'_>, prop: &Prop) {
        let name = prop.name.text.as_str();
        let declared = || entry.keyword.props.iter().map(|declared| declared.name);
        let message = format!("`{}` has no property `{name}`", entry.word());
        let finding = Diagnostic::error(code::UNKNOWN_WORD, prop.name.span, message);
        let known = entry.keyword.block.into_iter().flat_map(words_in);
        self.report(match suggest::nearest(name, declared()) {
            Some(near) => finding.help(format!("did you mean `{near}=`?")).fix(
                format!("write `{near}`"),
                vec![Edit::new(prop.name.span, near)],
            ),
            None if known.into_iter().any(|keyword| keyword.name == name) => finding.help(format!(
                "write it on a line of its own: `{} {{ {name} … }}`",
                entry.word()
            )),
            None if entry.keyword.props.is_empty() => {
                finding.help(format!("`{}` takes no properties", entry.word()))
            }
            None => finding.help(format!("it takes {}", list(declared()))),
        });
    }

    fn check_required(&mut self, entry: Entry<'_>) {
        let Keyword { args, props, .. } = entry.keyword;
        let node = entry.node;
        let span = node.name.span;
        if let Some(missing) = (node.args.len()..args.required).find_map(|index| args.at(index)) {
            let Argument { name, kind, .. } = missing;
            self.report(Diagnostic::error(
                code::MISSING,
                span,
                format!("`{}` needs its {name}: {}", entry.word(), expected(kind)),
            ));
        }
        for Property { name, kind, .. } in props.iter().filter(|prop| prop.required) {
            if node.prop(name).is_none() {
                self.report(
                    Diagnostic::error(
                        code::MISSING,
                        span,
                        format!("`{}` needs `{name}=`", entry.word()),
                    )
                    .help(format!("expected {}", expected(kind))),
                );
            }
        }
        let bare = node.args.is_empty() && node.props.is_empty() && !node.has_block;
        if bare && args.required == 0 && !entry.keyword.alone {
            self.report(
                Diagnostic::error(
                    code::MISSING,
                    span,
                    format!("`{}` says nothing", entry.word()),
                )
                .help("give it a value or a property, or remove it"),
            );
        }
    }

    fn check_value(&mut self, kind: &'static Kind, value: &Value, span: Span, what: &str) {
        let Err(wrong) = (kind.check)(value) else {
            return;
        };
        let source = self.sources.slice(span).unwrap_or_default();
        self.report(wrong_value(kind, value, source, span, what, wrong));
    }
}

fn property(name: &str) -> String {
    format!("`{name}=` can't be")
}

fn wrong_value(
    kind: &'static Kind,
    value: &Value,
    source: &str,
    span: Span,
    what: &str,
    wrong: Wrong,
) -> Diagnostic {
    let Wrong {
        code,
        message,
        help,
        instead,
    } = wrong;
    let found = describe(value);
    let message = message.unwrap_or_else(|| format!("{what} {found}"));
    let finding = Diagnostic::error(code, span, message).at(format!("expected {}", expected(kind)));
    let finding = match help {
        Some(help) => finding.help(help),
        None => finding,
    };
    // A number keeps its digits only as they stand in the file.
    let digits = matches!(value, Value::Integer(_) | Value::Float(_))
        && (kind.check)(&Value::Text(source.to_owned())).is_ok();
    match instead {
        Some(text) => finding.fix(format!("write {text}"), vec![Edit::new(span, text)]),
        None if digits => finding.fix(
            "put it in quotes",
            vec![Edit::new(span, format!("\"{source}\""))],
        ),
        None => finding,
    }
}

fn expected(kind: &Kind) -> String {
    if kind.words.is_empty() {
        kind.expected.to_owned()
    } else {
        list(kind.words.iter().copied())
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Word(word) => format!("the word `{}`", shorten(word)),
        Value::Text(text) => format!("the text \"{}\"", shorten(text)),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Bool(value) => format!("#{value}"),
        Value::Null => "#null".to_owned(),
    }
}

fn shorten(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}

fn places_of(word: &str) -> impl Iterator<Item = Place> {
    KEYWORDS
        .iter()
        .filter(move |keyword| keyword.name == word)
        .flat_map(|keyword| keyword.stands.iter().copied())
}

fn list<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn not_in_this_release(span: Span, what: &str) -> Diagnostic {
    Diagnostic::error(
        code::NOT_IN_THIS_RELEASE,
        span,
        format!("{what} is not supported by this release"),
    )
    .help("it is part of the language, but nothing would carry it out yet; remove it")
}
