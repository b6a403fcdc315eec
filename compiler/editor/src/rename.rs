//! A new name for something, in every place that names it.

use mesh_syntax::{Edit, FileId, Span};

use crate::name::{Id, Kind, Role};
use crate::navigate::in_library;
use crate::policies::Policies;
use mesh_compiler::value;

/// Why something gets no new name: a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrenamable(pub String);

/// What gets a new name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renaming {
    /// Where it was asked for.
    pub span: Span,
    /// Its name now.
    pub name: String,
}

/// What stands at an offset, if it can get a new name.
pub fn prepare(policies: &Policies, file: FileId, offset: usize) -> Result<Renaming, Unrenamable> {
    let mention = policies
        .mention_at(file, offset)
        .ok_or_else(|| Unrenamable("there is no name of a definition here".to_owned()))?;
    let Id { kind, name, .. } = &mention.id;
    let refused = match kind {
        Kind::Code => Some(format!("`{name}` is a code of meshc")),
        Kind::Environment => Some(format!(
            "an environment is also the folder `environments/{name}`; rename both by hand"
        )),
        Kind::Mesh => Some(
            "the name of a mesh is signed into its trust root; another name is another mesh"
                .to_owned(),
        ),
        _ if in_library(&mention.id).is_some() => {
            Some(format!("`{name}` is of the standard library"))
        }
        _ if policies.definitions(&mention.id).is_empty() => {
            Some(format!("no file defines the {} `{name}`", kind.word()))
        }
        _ => None,
    };
    match refused {
        Some(why) => Err(Unrenamable(why)),
        None => Ok(Renaming {
            span: mention.span,
            name: name.clone(),
        }),
    }
}

/// The edits that give what stands at an offset a new name, in the order of files.
pub fn rename(
    policies: &Policies,
    file: FileId,
    offset: usize,
    new: &str,
) -> Result<Vec<Edit>, Unrenamable> {
    prepare(policies, file, offset)?;
    let id = policies.mention_at(file, offset).map(|mention| &mention.id);
    let id = id.ok_or_else(|| Unrenamable("there is no name here".to_owned()))?;
    if id.name == new {
        return Ok(Vec::new());
    }
    if !value::is_definable(new) {
        return Err(Unrenamable(format!(
            "`{new}` is not a name: names are {}",
            value::DEFINABLE
        )));
    }
    if new.starts_with("std.") && id.kind == Kind::Policy {
        return Err(Unrenamable(
            "names that begin with `std.` are those of the standard library".to_owned(),
        ));
    }
    if let Some(taken) = taken(policies, id, new) {
        return Err(Unrenamable(taken));
    }
    let mentions = policies.mentions().filter(|mention| mention.id == *id);
    Ok(mentions
        .map(|mention| Edit::new(mention.span, new))
        .collect())
}

/// What has the new name already, where that would be an error.
fn taken(policies: &Policies, id: &Id, new: &str) -> Option<String> {
    let clashes = |other: &Id| {
        other.name == new
            && match (id.kind, other.kind) {
                // A subset may not share its name with a service.
                (Kind::Subset, Kind::Service) | (Kind::Service, Kind::Subset) => true,
                (kind, other_kind) => kind == other_kind && id.owner == other.owner,
            }
    };
    let mut defined = policies
        .mentions()
        .filter(|mention| mention.role != Role::Reference);
    let other = defined.find(|mention| clashes(&mention.id))?;
    let (line, _) = policies.sources().line_column(other.span);
    let path = policies.sources().path(other.span.file);
    Some(format!(
        "`{new}` is already a {} ({path}:{line})",
        other.word
    ))
}

#[cfg(test)]
mod tests {
    use crate::tester::{Case, MESH};

    fn renamed(text: &str, new: &str) -> String {
        Case::new(&[
            ("mesh.kdl", MESH),
            ("a.kdl", text),
            (
                "b.kdl",
                "service b { port 80; subset v1 { labels v=a }; route r { to v1 }; calls a route=r; allow a any; use own }
policy own { timeout \"1s\" }
",
            ),
            (
                "environments/prod/a.kdl",
                "override service a { route r { timeout \"1s\" } }",
            ),
            (
                "a.test.kdl",
                "test \"a\" { request GET \"/a\" from=b to=a; expect allowed route=r }",
            ),
        ])
        .renamed(new)
    }

    #[test]
    fn a_new_name_reaches_every_place_that_names_it() {
        insta::assert_snapshot!(renamed(
            "service a¦ { port 80; route r; host \"a\" }",
            "cart"
        ));
        insta::assert_snapshot!(renamed("service a { port 80; route r¦ }", "rest"));
    }

    #[test]
    fn what_can_have_no_new_name_says_why() {
        for (text, new, why) in [
            ("service a¦", "b", "`b` is already a service (b.kdl:1)"),
            ("service a¦", "v1", "`v1` is already a subset (b.kdl:1)"),
            ("service a¦", "A", "`A` is not a name"),
            ("service a¦", "any", "`any` is not a name"),
            ("service a¦", "a b", "`a b` is not a name"),
            ("service a¦", "1a", "`1a` is not a name"),
            ("service a¦", "12", "`12` is not a name"),
            ("service a¦", "true", "`true` is not a name"),
            ("service a¦", "inf", "`inf` is not a name"),
            (
                "service c { use std.retr¦ies }",
                "x",
                "`std.retries` is of the standard library",
            ),
            (
                "service c { use ow¦n }",
                "std.own",
                "names that begin with `std.`",
            ),
            (
                "service c { use oth¦er }",
                "x",
                "no file defines the policy `other`",
            ),
            ("servi¦ce c", "x", "there is no name of a definition here"),
            ("suppress MSH04¦03", "x", "`MSH0403` is a code of meshc"),
        ] {
            let found = renamed(text, new);
            assert!(found.starts_with(why), "{text}: {found}");
        }
    }
}
