//! Where something is defined, and who uses it.

use mesh_compiler::library::LIBRARY;
use mesh_syntax::{FileId, Span};

use crate::cursor::{Part, part};
use crate::name::{Id, Kind, Role};
use crate::policies::Policies;
use crate::walk::path_to;

/// Where something is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Definition {
    /// In a file of the root.
    At(Span),
    /// In the standard library, in the file of this name.
    Library(&'static str),
}

/// What names of the standard library begin with.
const LIBRARY_PREFIX: &str = "std.";

/// The text of a file of the standard library.
pub fn library_text(name: &str) -> Option<&'static str> {
    let mut entries = LIBRARY.iter();
    let entry = entries.find(|entry| entry.name == name)?;
    Some(entry.text)
}

/// The name of the library's policy that an id speaks of.
pub(crate) fn in_library(id: &Id) -> Option<&'static str> {
    let name = id.name.strip_prefix(LIBRARY_PREFIX)?;
    let mut entries = LIBRARY.iter();
    let entry = entries.find(|entry| id.kind == Kind::Policy && entry.name == name)?;
    Some(entry.name)
}

/// Where what stands at an offset is defined.
pub fn definitions(policies: &Policies, file: FileId, offset: usize) -> Vec<Definition> {
    if let Some(mention) = policies.mention_at(file, offset) {
        if let Some(name) = in_library(&mention.id) {
            return vec![Definition::Library(name)];
        }
        let found = policies.definitions(&mention.id).into_iter();
        return found.map(|found| Definition::At(found.span)).collect();
    }
    key_set(policies, file, offset)
        .map(|file| Definition::At(Span::new(file, 0, 0)))
        .into_iter()
        .collect()
}

/// The file of keys that `jwks file=` names at an offset.
fn key_set(policies: &Policies, file: FileId, offset: usize) -> Option<FileId> {
    let chain = path_to(policies.tree(file)?, policies.top(file), offset);
    let node = chain.last()?.node;
    let (Part::PropValue("file"), _) = part(node, offset)? else {
        return None;
    };
    let named = node.prop("file")?.value.as_str()?;
    let path = match policies.root_path() {
        "" => named.to_owned(),
        root => format!("{root}/{named}"),
    };
    policies
        .sources()
        .find(&path)
        .filter(|_| node.name.text == "jwks")
}

/// Every place that names what stands at an offset, in the order of files.
pub fn references(
    policies: &Policies,
    file: FileId,
    offset: usize,
    with_definition: bool,
) -> Vec<Span> {
    let Some(mention) = policies.mention_at(file, offset) else {
        return Vec::new();
    };
    let all = policies.mentions().filter(|other| other.id == mention.id);
    all.filter(|other| with_definition || other.role == Role::Reference)
        .map(|other| other.span)
        .collect()
}

/// The same in one file, and whether it is defined there.
pub fn highlights(policies: &Policies, file: FileId, offset: usize) -> Vec<(Span, bool)> {
    let Some(mention) = policies.mention_at(file, offset) else {
        return Vec::new();
    };
    let here = policies.mentions_in(file).iter();
    here.filter(|other| other.id == mention.id)
        .map(|other| (other.span, other.role != Role::Reference))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::tester::{Case, MESH};

    const REVIEWS: &str = "service reviews {
    port 80
    subset v1 { labels version=v1 }
    route old { to v1 }
    allow page team=shop
    use own std.retries
    require jwt id
}
";

    fn case(other: &str) -> Case {
        Case::new(&[
            ("mesh.kdl", MESH),
            ("reviews.kdl", REVIEWS),
            (
                "page.kdl",
                "service page { port 80 }\npolicy own { timeout \"1s\" }\n",
            ),
            (
                "id.kdl",
                "jwt id { issuer \"i\"; audience \"a\"; jwks file=\"id.jwks.json\" }\n",
            ),
            ("id.jwks.json", "{}"),
            ("other.kdl", other),
        ])
    }

    #[test]
    fn a_name_leads_to_its_definition() {
        for (other, expected) in [
            ("service x { calls revi¦ews }", "reviews.kdl:1:9"),
            ("service x { calls reviews route=ol¦d }", "reviews.kdl:4:11"),
            (
                "service x { route r { to service=reviews subset=v1¦ } }",
                "reviews.kdl:3:12",
            ),
            (
                "gateway g { route r { to ¦reviews subset=v1 } }",
                "reviews.kdl:1:9",
            ),
            (
                "gateway g { route r { to reviews subset=v¦1 } }",
                "reviews.kdl:3:12",
            ),
            ("service x { allow page te¦am=shop }", ""),
            ("service x { allow page team=sh¦op }", "mesh.kdl:3:10"),
            ("service x { use ow¦n }", "page.kdl:2:8"),
            ("service x { use std.tim¦eouts }", "std/timeouts"),
            ("service x { require jwt i¦d }", "id.kdl:1:5"),
            ("service x { require authorizer i¦d }", ""),
            ("service x { allow an¦y }", ""),
            (
                "suppress MSH0403 at=reviews route=o¦ld reason=\"r\"",
                "reviews.kdl:4:11",
            ),
            (
                "route r gateway=g { to revi¦ews }\ngateway g",
                "reviews.kdl:1:9",
            ),
        ] {
            assert_eq!(case(other).definitions(), expected, "{other}");
        }
    }

    #[test]
    fn a_test_speaks_of_the_service_that_it_calls() {
        let test = |line: &str| {
            let mut files = vec![("mesh.kdl", MESH), ("reviews.kdl", REVIEWS)];
            let text =
                format!("test \"t\" {{\n request GET \"/\" from=page to=reviews\n {line}\n}}");
            files.push(("a.test.kdl", &text));
            Case::new(&files).definitions()
        };
        assert_eq!(test("expect allowed route=ol¦d"), "reviews.kdl:4:11");
        assert_eq!(test("expect allowed to=v¦1"), "reviews.kdl:3:12");
        assert_eq!(
            test("expect split { to v¦1 share=\"1%\" }"),
            "reviews.kdl:3:12"
        );
    }

    #[test]
    fn an_environment_changes_what_is_defined_elsewhere() {
        let at = |text: &str| {
            Case::new(&[
                ("mesh.kdl", MESH),
                ("reviews.kdl", REVIEWS),
                ("environments/prod/a.kdl", text),
            ])
            .definitions()
        };
        assert_eq!(at("override service revi¦ews"), "reviews.kdl:1:9");
        assert_eq!(
            at("override service reviews { route ol¦d }"),
            "reviews.kdl:4:11"
        );
        assert_eq!(
            at("override service reviews { route o { to v¦1 } }"),
            "reviews.kdl:3:12"
        );
        assert_eq!(
            at("override service reviews { remove route ol¦d }"),
            "reviews.kdl:4:11"
        );
    }

    #[test]
    fn a_file_of_keys_is_a_definition() {
        let files = [
            ("mesh.kdl", MESH),
            ("id.kdl", "jwt id { jwks file=\"id.jw¦ks.json\" }"),
            ("id.jwks.json", "{}"),
        ];
        assert_eq!(Case::new(&files).definitions(), "id.jwks.json:1:1");
    }

    #[test]
    fn every_use_is_found_and_nothing_of_another_s_name() {
        let case = Case::new(&[
            ("mesh.kdl", MESH),
            ("reviews.kdl", REVIEWS),
            (
                "other.kdl",
                "service old { port 80; subset v1 { labels a=b }; route old { to v1 } }
service b { port 80; calls reviews route=old; calls old }
suppress MSH0403 at=reviews route=o¦ld reason=\"r\"
",
            ),
        ]);
        assert_eq!(
            case.references(),
            "reviews.kdl:4:11 other.kdl:2:42 other.kdl:3:35"
        );
    }
}
