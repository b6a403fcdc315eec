//! One definition and one `override` of it become one definition.

use std::collections::{BTreeMap, BTreeSet};

use mesh_syntax::{Arg, Diagnostic, Edit, Node, Span, Value, code as syntax_code};

use crate::code;
use crate::keyword::{Keyword, Merge, Place, Reader, words_in};

/// Changes a definition as its override says.
pub(super) fn definition(reader: &mut Reader<'_>, base: &mut Node, change: &Node) {
    let place = words_in(Place::Root)
        .find(|word| word.name == base.name.text)
        .and_then(|word| word.block);
    let Some(place) = place else {
        return;
    };
    let (removals, changes): (Vec<&Node>, Vec<&Node>) = change
        .children
        .iter()
        .partition(|child| child.name.text == "remove");
    if place == Place::Route {
        // Whole by its name, as a route inside a definition is: its parts mean something only together.
        base.children = changes.iter().map(|change| (*change).clone()).collect();
    } else {
        block(reader, base, &changes, place);
    }
    base.has_block |= !base.children.is_empty();
    remove(reader, base, &changes, &removals);
}

/// Merges the words of a block, each as its declaration says.
fn block(reader: &mut Reader<'_>, base: &mut Node, changes: &[&Node], place: Place) {
    let mergings = words_in(place).map(|keyword| (keyword.name, (keyword, keyword.merging())));
    let mergings: BTreeMap<&str, (&'static Keyword, Merge)> = mergings.collect();
    let merging = |node: &Node| mergings.get(node.name.text.as_str()).copied();
    let lists = changes.iter().map(|change| change.name.text.as_str());
    let listed: BTreeSet<&str> = lists
        .filter(|word| {
            mergings
                .get(word)
                .is_some_and(|(_, merge)| *merge == Merge::List)
        })
        .collect();
    base.children
        .retain(|child| !listed.contains(child.name.text.as_str()));
    // Positions of what is there; children are only added from here on.
    let mut positions: BTreeMap<String, usize> = BTreeMap::new();
    for (index, child) in base.children.iter().enumerate() {
        positions
            .entry(key(child, merging(child).map(|(_, merge)| merge)))
            .or_insert(index);
    }
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    for change in changes {
        // Of a word that is unknown here, decoding says what is wrong.
        let Some((keyword, merge)) = merging(change) else {
            base.children.push((*change).clone());
            continue;
        };
        if matches!(merge, Merge::List | Merge::Adds) {
            base.children.push((*change).clone());
            continue;
        }
        let key = key(change, Some(merge));
        let position = positions.get(&key).copied();
        if let Some(first) = seen.insert(key, change.name.span) {
            given_twice(reader, change, first);
            continue;
        }
        match position.and_then(|index| base.children.get_mut(index)) {
            Some(child) if merge == Merge::Fields => fields(reader, child, change, keyword),
            Some(child) => *child = (*change).clone(),
            None if merge == Merge::Named => not_there(reader, base, change),
            None => base.children.push((*change).clone()),
        }
    }
}

/// Merges a setting: what the override gives replaces what the base gives.
fn fields(reader: &mut Reader<'_>, base: &mut Node, change: &Node, keyword: &'static Keyword) {
    // `none` speaks of the whole setting, and so does what takes its place.
    if is_none(change) || is_none(base) {
        *base = change.clone();
        return;
    }
    if !change.args.is_empty() {
        base.args.clone_from(&change.args);
    }
    for prop in &change.props {
        let own = base.props.iter_mut();
        match own.into_iter().find(|own| own.name.text == prop.name.text) {
            Some(own) => *own = prop.clone(),
            None => base.props.push(prop.clone()),
        }
    }
    // Where the word has no block, decoding says so.
    base.has_block |= change.has_block;
    if let Some(place) = keyword.block {
        let children: Vec<&Node> = change.children.iter().collect();
        block(reader, base, &children, place);
    }
}

fn is_none(node: &Node) -> bool {
    matches!(node.args.as_slice(), [Arg { value: Value::Word(word), .. }] if word == "none")
}

/// Takes definitions out of a block.
fn remove(reader: &mut Reader<'_>, base: &mut Node, changes: &[&Node], removals: &[&Node]) {
    if removals.is_empty() {
        return;
    }
    let changed: BTreeMap<String, Span> = changes
        .iter()
        .map(|change| (name_of(&change.name.text, &change.args), change.name.span))
        .collect();
    let there: BTreeSet<String> = base
        .children
        .iter()
        .map(|child| name_of(&child.name.text, &child.args))
        .collect();
    let mut gone: BTreeSet<String> = BTreeSet::new();
    for removal in removals {
        let [kind, names @ ..] = removal.args.as_slice() else {
            continue;
        };
        if let Some(prop) = removal.props.first() {
            reader.report(
                Diagnostic::error(
                    code::EXCLUSIVE,
                    prop.span,
                    "what stands inside a definition is named without it",
                )
                .help("remove the property"),
            );
        }
        let Some(kind) = kind.value.as_str() else {
            continue;
        };
        let name = name_of(kind, names);
        if let Some(change) = changed.get(&name) {
            let message = format!("`{name}` is changed and removed");
            reader.report(
                Diagnostic::error(code::EXCLUSIVE, removal.span, message)
                    .label(*change, "changed here")
                    .help("keep one of them"),
            );
        } else if there.contains(&name) {
            gone.insert(name);
        } else {
            let message = format!("{} has no `{name}`", describe(base));
            let finding = Diagnostic::error(code::DANGLING_REFERENCE, removal.span, message);
            let near = removal.args.get(1);
            let near = near.and_then(|name| Some((name.span, nearest(base, kind, name)?)));
            reader.report(match near {
                Some((span, near)) => suggest(finding, span, &near),
                None => finding.help("remove this line, or name what is there"),
            });
        }
    }
    base.children
        .retain(|child| !gone.contains(&name_of(&child.name.text, &child.args)));
}

fn not_there(reader: &mut Reader<'_>, base: &Node, change: &Node) {
    let word = change.name.text.as_str();
    let Some(name) = change.first_arg() else {
        return;
    };
    let text = name.value.as_str().unwrap_or_default();
    let message = format!("{} has no {word} `{text}` to override", describe(base));
    let finding = Diagnostic::error(code::DANGLING_REFERENCE, name.span, message);
    reader.report(match nearest(base, word, name) {
        Some(near) => suggest(finding, name.span, &near),
        None => finding.help(
            "an environment may add endpoints, listeners and tests; declare this where all environments see it",
        ),
    });
}

fn nearest(base: &Node, kind: &str, name: &Arg) -> Option<String> {
    let names = base
        .children_named(kind)
        .filter_map(|child| child.first_arg()?.value.as_str());
    crate::suggest::nearest(name.value.as_str()?, names).map(str::to_owned)
}

/// `route everyone`, as people would say it.
fn name_of(kind: &str, args: &[Arg]) -> String {
    let mut name = kind.to_owned();
    for arg in args {
        name.push(' ');
        match &arg.value {
            Value::Word(text) | Value::Text(text) => name.push_str(text),
            Value::Integer(number) => name.push_str(&number.to_string()),
            Value::Float(_) | Value::Bool(_) | Value::Null => name.push('?'),
        }
    }
    name
}

fn describe(node: &Node) -> String {
    let name = node.first_arg().and_then(|arg| arg.value.as_str());
    match name {
        Some(name) => format!("the {} `{name}`", node.name.text),
        None => format!("`{}`", node.name.text),
    }
}

/// What tells the words of one block apart: of settings the word, of definitions also their name, and
/// of a call also the route that it speaks of.
fn key(node: &Node, merge: Option<Merge>) -> String {
    if !matches!(merge, Some(Merge::Named | Merge::NamedOrNew)) {
        return node.name.text.clone();
    }
    let route = node.prop("route").and_then(|prop| prop.value.as_str());
    format!(
        "{}/{}",
        name_of(&node.name.text, &node.args),
        route.unwrap_or_default()
    )
}

fn given_twice(reader: &mut Reader<'_>, node: &Node, first: Span) {
    reader.report(
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

/// Offers the name that was probably meant.
pub(super) fn suggest(finding: Diagnostic, span: Span, near: &str) -> Diagnostic {
    finding
        .help(format!("did you mean `{near}`?"))
        .fix(format!("write `{near}`"), vec![Edit::new(span, near)])
}
