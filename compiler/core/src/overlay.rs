//! Environments: the trees that all share, changed by what stands in `environments/NAME/`.
//!
//! It works on trees, before they are decoded, so that neither decoding nor linking knows of
//! environments, and every keyword says in its own declaration what an `override` does with it. Spans stay
//! what they were: a value that an environment sets points into the environment's file.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use mesh_syntax::{Diagnostic, Node, SourceSet, Span, Tree};

use crate::DEFAULT_ENVIRONMENT;
use crate::code;
use crate::keyword::{Entry, KINDS, Place, Reader, is_inventory};
use crate::model::{Overriding, Spanned};
use crate::suggest;

mod merge;

/// The folder below the root whose folders are environments.
const FOLDER: &str = "environments/";

/// What an environment's trees are, once its overrides are applied.
#[derive(Debug)]
pub(crate) struct Overlaid<'t> {
    /// Trees of definitions and tests, without those of other environments.
    pub(crate) trees: Vec<Cow<'t, Tree>>,
    /// The environments that `mesh` declares, ascending.
    pub(crate) environments: Vec<String>,
    /// What was overridden or removed.
    pub(crate) overridings: Vec<Overriding>,
    /// What is wrong with the overrides.
    pub(crate) findings: Vec<Diagnostic>,
    /// Something could not be applied, so that a name that nothing has may be its.
    pub(crate) incomplete: bool,
}

/// The environment whose folder a file lies in.
pub(crate) fn folder_of<'p>(path: &'p str, root_path: &str) -> Option<&'p str> {
    let below = match root_path {
        "" => path,
        root => path.strip_prefix(root)?.strip_prefix('/')?,
    };
    let (environment, _) = below.strip_prefix(FOLDER)?.split_once('/')?;
    Some(environment)
}

/// Whether a file belongs to one environment, and another is compiled.
pub(crate) fn is_foreign(path: &str, root_path: &str, environment: &str) -> bool {
    folder_of(path, root_path).is_some_and(|folder| folder != environment)
}

/// Applies the overrides of an environment to the trees that all share. Where something was not read, a definition that
/// is not there may have been in it.
pub(crate) fn apply<'t>(
    sources: &SourceSet,
    root_path: &str,
    environment: &str,
    trees: &'t [Tree],
    unread: bool,
) -> Overlaid<'t> {
    let mut reader = Reader::new(sources);
    let mut shared = Vec::new();
    let mut changes = Vec::new();
    let mut inventories = Vec::new();
    for tree in trees {
        let path = sources.path(tree.file);
        match folder_of(path, root_path) {
            None => shared.push(Cow::Borrowed(tree)),
            Some(folder) if folder != environment => {}
            Some(_) if path.ends_with(".test.kdl") => shared.push(Cow::Borrowed(tree)),
            Some(_) if is_inventory(path) => inventories.push(Cow::Borrowed(tree)),
            Some(_) => changes.push(tree),
        }
    }
    shared_trust_domain(&mut reader, root_path, sources, trees);
    // An environment's own inventory takes the place of the one that all share.
    if !inventories.is_empty() {
        shared.retain(|tree| !is_inventory(sources.path(tree.file)));
        shared.append(&mut inventories);
    }
    let declared = declared_environments(sources, root_path, trees);
    // Without a readable `mesh` nobody knows which environments there are.
    if let Some(declared) = &declared {
        stray_folders(&mut reader, root_path, sources, trees, declared);
    }
    let mut incomplete = false;
    let mut target = Target::new(&shared, sources, unread);
    let mut additions = Vec::new();
    for tree in changes {
        let entries = reader.entries(&tree.nodes, Place::Environment);
        incomplete |= entries.len() < tree.nodes.len();
        let mut rest = Vec::new();
        for entry in entries {
            match entry.word() {
                "override" => {
                    incomplete |= target.plan(&mut reader, entry, Some(entry.node)).is_none();
                }
                "remove" => incomplete |= target.plan(&mut reader, entry, None).is_none(),
                _ => rest.push(entry.node.clone()),
            }
        }
        if !rest.is_empty() {
            additions.push(Cow::Owned(Tree {
                file: tree.file,
                nodes: rest,
            }));
        }
    }
    let (planned, overridings) = (target.planned, target.overridings);
    for ((tree, index), change) in planned.into_iter().rev() {
        let nodes = &mut shared[tree].to_mut().nodes;
        match change {
            Some(changes) => merge::definition(&mut reader, &mut nodes[index], changes),
            // From the last to the first, so that the positions before it stay what they are.
            None => drop(nodes.remove(index)),
        }
    }
    shared.extend(additions);
    let findings = reader.into_findings();
    Overlaid {
        trees: shared,
        environments: declared.into_iter().flatten().map(str::to_owned).collect(),
        overridings,
        findings,
        incomplete,
    }
}

/// Where a definition stands: its tree, and its position there.
type Position = (usize, usize);

/// What can be changed, and what is to become of it.
struct Target<'t> {
    defined: BTreeMap<(&'static str, String), (Position, Span)>,
    /// Whether other definitions may be there.
    unread: bool,
    /// The override of each definition; none: it is removed.
    planned: BTreeMap<Position, Option<&'t Node>>,
    overridings: Vec<Overriding>,
    /// Where each of them is asked for.
    asked: BTreeMap<Position, Span>,
}

impl<'t> Target<'t> {
    fn new(shared: &[Cow<'_, Tree>], sources: &SourceSet, unread: bool) -> Self {
        let mut defined = BTreeMap::new();
        for (position, tree) in shared.iter().enumerate() {
            if sources.path(tree.file).ends_with(".test.kdl") {
                continue;
            }
            for (index, node) in tree.nodes.iter().enumerate() {
                let kind = KINDS.iter().find(|kind| **kind == node.name.text);
                let name = node.first_arg().and_then(|arg| arg.value.as_str());
                if let Some((kind, name)) = kind.zip(name) {
                    defined
                        .entry((*kind, full_name(name, gateway_of(node))))
                        .or_insert(((position, index), node.name.span));
                }
            }
        }
        Self {
            defined,
            unread,
            planned: BTreeMap::new(),
            overridings: Vec::new(),
            asked: BTreeMap::new(),
        }
    }

    fn plan(
        &mut self,
        reader: &mut Reader<'_>,
        entry: Entry<'t>,
        change: Option<&'t Node>,
    ) -> Option<()> {
        let kind = entry.arg(0, crate::keyword::overridden_kind);
        let name = entry
            .node
            .args
            .get(1)
            .filter(|name| name.value.as_str().is_some());
        let Some((kind, name)) = kind.zip(name) else {
            if let Some(kind) = entry.node.args.first().filter(|_| entry.word() == "remove") {
                reader.report(
                    Diagnostic::error(code::WRONG_KIND, kind.span, "this can't be removed here")
                        .help("a part of a definition is removed inside its `override`"),
                );
            }
            return None;
        };
        let gateway = gateway_of(entry.node);
        if gateway.is_some() != (kind.value == "route") {
            reader.report(match gateway {
                Some(_) => Diagnostic::error(
                    code::EXCLUSIVE,
                    entry.span(),
                    format!("a {} is of no gateway", kind.value),
                )
                .help("remove `gateway=`"),
                None => Diagnostic::error(code::MISSING, entry.span(), "which gateway's route?").help(
                    "say `gateway=NAME` of a route in a file of its own; one inside a service, an external or a gateway is \
                     changed in the `override` of that",
                ),
            });
            return None;
        }
        let text = &full_name(name.value.as_str().unwrap_or_default(), gateway);
        let known = self.defined.get(&(kind.value, text.clone())).copied();
        let Some((position, declared)) = known else {
            if self.unread {
                return None;
            }
            let gateways = full_name("", gateway);
            let same_kind = (self.defined.keys())
                .filter(|(other, _)| *other == kind.value)
                .filter_map(|(_, name)| name.strip_suffix(&gateways));
            let own = text.strip_suffix(&gateways).unwrap_or(text);
            let near = suggest::nearest(own, same_kind);
            let message = format!(
                "there is no {} `{text}` that all environments share",
                kind.value
            );
            let finding = Diagnostic::error(code::DANGLING_REFERENCE, name.span, message);
            reader.report(match near {
                Some(near) => merge::suggest(finding, name.span, near),
                None => finding.help(
                    "an environment changes what stands outside of `environments`; declare it there",
                ),
            });
            return None;
        };
        if let Some(first) = self.asked.get(&position) {
            let message = format!(
                "two places of this environment change the {} `{text}`",
                kind.value
            );
            reader.report(
                Diagnostic::error(code::DUPLICATE_DEFINITION, entry.span(), message)
                    .label(*first, "the other one")
                    .help("put both together: which of them would win must not depend on files"),
            );
            return None;
        }
        self.asked.insert(position, entry.span());
        self.overridings.push(Overriding {
            kind: kind.value,
            name: Spanned::new(text.clone(), name.span),
            declared,
            span: entry.span(),
        });
        self.planned.insert(position, change);
        Some(())
    }
}

/// The gateway of a route in a file of its own.
fn gateway_of(node: &Node) -> Option<&str> {
    node.prop("gateway")?.value.as_str()
}

/// The name of a definition; gateways may have routes of one name.
fn full_name(name: &str, gateway: Option<&str>) -> String {
    match gateway {
        Some(gateway) => format!("{name} gateway={gateway}"),
        None => name.to_owned(),
    }
}

/// Says which declared environments have one trust domain: a certificate of the one is then good in the other.
fn shared_trust_domain(
    reader: &mut Reader<'_>,
    root_path: &str,
    sources: &SourceSet,
    trees: &[Tree],
) {
    let Some(declared) = declared_environments(sources, root_path, trees) else {
        return;
    };
    let mut own: BTreeMap<&str, (&str, Span)> = BTreeMap::new();
    let mut shared: Option<(&str, Span)> = None;
    for tree in trees {
        let folder = folder_of(sources.path(tree.file), root_path);
        for node in &tree.nodes {
            let is_mesh = match folder {
                None => node.name.text == "mesh",
                Some(_) => {
                    node.name.text == "override"
                        && node.first_arg().and_then(|kind| kind.value.as_str()) == Some("mesh")
                }
            };
            let domain = node.children_named("trust-domain").next();
            let domain = domain.and_then(Node::first_arg).filter(|_| is_mesh);
            let Some(domain) = domain.and_then(|arg| Some((arg.value.as_str()?, arg.span))) else {
                continue;
            };
            match folder {
                None => shared = shared.or(Some(domain)),
                Some(environment) => drop(own.entry(environment).or_insert(domain)),
            }
        }
    }
    let Some(shared) = shared else {
        return;
    };
    let mut by_domain: BTreeMap<&str, (Span, Vec<&str>)> = BTreeMap::new();
    for environment in declared {
        let (domain, span) = own.get(environment).copied().unwrap_or(shared);
        let (_, names) = by_domain.entry(domain).or_insert((span, Vec::new()));
        names.push(environment);
    }
    for (domain, (span, names)) in by_domain {
        if names.len() < 2 {
            continue;
        }
        let list: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let message = format!("{} share the trust domain \"{domain}\"", list.join(" and "));
        reader.report(
            Diagnostic::warning(code::SHARED_TRUST_DOMAIN, span, message)
                .help("give all but one their own: `override mesh NAME { trust-domain \"…\" }` in the environment's folder"),
        );
    }
}

/// Files that look as if they belonged to an environment and belong to none.
fn stray_folders(
    reader: &mut Reader<'_>,
    root_path: &str,
    sources: &SourceSet,
    trees: &[Tree],
    declared: &BTreeSet<&str>,
) {
    let mut reported = BTreeSet::new();
    for tree in trees {
        let Some(folder) = folder_of(sources.path(tree.file), root_path) else {
            continue;
        };
        if declared.contains(folder) || folder == DEFAULT_ENVIRONMENT || !reported.insert(folder) {
            continue;
        }
        let message = format!("the environment `{folder}` is not declared");
        let span = tree
            .nodes
            .first()
            .map_or(Span::new(tree.file, 0, 0), |node| node.name.span);
        let finding = Diagnostic::error(code::DANGLING_REFERENCE, span, message);
        reader.report(match suggest::nearest(folder, declared.iter().copied()) {
            Some(near) => finding.help(format!("did you mean the folder `{FOLDER}{near}`?")),
            None => finding.help(format!("write `environment {folder}` in `mesh`")),
        });
    }
}

/// Whether the `mesh` node declares any environment.
pub(crate) fn has_environments(sources: &SourceSet, root_path: &str, trees: &[Tree]) -> bool {
    declared_environments(sources, root_path, trees).is_some_and(|declared| !declared.is_empty())
}

fn declared_environments<'t>(
    sources: &SourceSet,
    root_path: &str,
    trees: &'t [Tree],
) -> Option<BTreeSet<&'t str>> {
    let shared = trees
        .iter()
        .filter(|tree| folder_of(sources.path(tree.file), root_path).is_none());
    let mesh = shared
        .flat_map(|tree| &tree.nodes)
        .find(|node| node.name.text == "mesh")?;
    let lists = mesh.children_named("environment");
    let names = lists
        .flat_map(|list| &list.args)
        .filter_map(|arg| arg.value.as_str());
    Some(names.collect())
}

#[cfg(test)]
mod tests {
    use mesh_syntax::SourceSet;

    use crate::linked::Source;
    use crate::test_util;
    use crate::{Analysed, Input};

    const MESH: &str = "mesh m { trust-domain \"m.example\"; environment staging prod }\n";
    /// Staging has no trust domain of its own in these tests.
    const SHARED_DOMAIN: &str = "MSH0120";
    const SHARED: &str = "service a {
    port 80
    endpoints { static \"10.0.0.1:80\" }
    subset v1 { labels v=\"one\" }
    timeout \"10s\" connect=\"1s\"
    retry reset 503 attempts=2 per-try=\"400ms\"
    retry-budget \"20%\" of=requests min=\"5/s\"
    route old { match { path \"/old\" }; timeout \"3s\" }
    route rest
    allow any
}
service b { port 80; calls a { timeout \"500ms\" } }
";

    fn sources(staging: &str) -> SourceSet {
        test_util::sources(&[
            ("a.kdl", SHARED),
            (
                "environments/prod/a.kdl",
                "override service b { host \"b.example\" }",
            ),
            ("environments/staging/a.kdl", staging),
            ("mesh.kdl", MESH),
        ])
    }

    fn load(sources: &SourceSet, environment: &str) -> Analysed {
        crate::load(Input {
            sources,
            environment,
            root_path: "",
        })
    }

    fn findings(staging: &str) -> String {
        let sources = sources(staging);
        test_util::render(&sources, &load(&sources, "staging").diagnostics)
    }

    #[test]
    fn fields_merge_and_say_where_they_come_from() {
        let sources = sources(
            "override service a {
    timeout \"2s\"
    retry attempts=3
    route rest { timeout \"1s\" }
    remove route old
    endpoints { static \"10.9.0.1:80\"; static \"10.9.0.2:80\" }
    allow b { method GET }
}",
        );
        let analysed = load(&sources, "staging");
        assert!(
            analysed
                .diagnostics
                .iter()
                .all(|finding| finding.code == SHARED_DOMAIN),
            "{:?}",
            analysed.diagnostics
        );
        let mesh = analysed.mesh.unwrap();
        let a = &mesh.services[0];
        let names: Vec<&str> = a
            .routes
            .iter()
            .map(|route| route.name.value.as_str())
            .collect();
        assert_eq!(names, ["rest"]);
        let exchange = &a.routes[0].exchange;
        assert_eq!(exchange.timeout.value.unwrap().as_secs(), 1);
        assert_eq!(exchange.attempts.value, 3);
        assert_eq!(exchange.causes.value.len(), 2);
        assert_eq!(exchange.per_try.value.unwrap().as_millis(), 400);
        assert_eq!(exchange.connect.value.as_secs(), 1);
        let file = |source: Source| sources.path(source.span().unwrap().file).to_owned();
        assert_eq!(file(exchange.attempts.source), "environments/staging/a.kdl");
        assert_eq!(file(exchange.connect.source), "a.kdl");
        assert_eq!(a.access.len(), 2);
        let crate::linked::Endpoints::Declared(endpoints) = &a.endpoints else {
            panic!("they are declared");
        };
        assert_eq!(endpoints.len(), 2);
    }

    #[test]
    fn an_environment_sees_nothing_of_another() {
        let sources = sources("override service a { timeout \"2s\" }");
        let shared = load(&sources, "default").mesh.unwrap();
        assert_eq!(
            shared.services[0].routes[1]
                .exchange
                .timeout
                .value
                .unwrap()
                .as_secs(),
            10
        );
        assert_eq!(shared.services[1].hosts, ["b"]);
        let prod = load(&sources, "prod").mesh.unwrap();
        assert_eq!(prod.services[1].hosts, ["b.example"]);
    }

    #[test]
    fn what_can_not_be_read_stops_its_own_environment_only() {
        let sources = sources("override service a {");
        assert!(load(&sources, "staging").mesh.is_none());
        assert!(load(&sources, "prod").mesh.is_some());
        assert!(load(&sources, "default").mesh.is_some());
    }

    #[test]
    fn the_mesh_itself_may_differ() {
        let sources = sources(
            "override mesh m { trust-domain \"staging.m.example\"; defaults { timeout \"7s\" } }",
        );
        let mesh = load(&sources, "staging").mesh.unwrap();
        assert_eq!(mesh.trust_domain.value, "staging.m.example");
        assert_eq!(
            mesh.services[1].routes[0]
                .exchange
                .timeout
                .value
                .unwrap()
                .as_secs(),
            7
        );
    }

    #[test]
    fn environments_that_share_a_trust_domain_are_said_once() {
        let with = |staging: &str| {
            let sources = sources(staging);
            let found = load(&sources, "prod").diagnostics;
            test_util::render(&sources, &found)
        };
        assert_eq!(with("override mesh m { trust-domain \"s.example\" }"), "");
        insta::assert_snapshot!(with("override service a { timeout \"2s\" }"));
    }

    #[test]
    fn none_replaces_a_setting_whole() {
        let sources = sources("override service a { retry none; retry-budget none }");
        let mesh = load(&sources, "staging").mesh.unwrap();
        assert_eq!(mesh.services[0].routes[0].exchange.attempts.value, 1);
    }

    #[test]
    fn a_whole_definition_is_removed() {
        let sources = sources("remove service b");
        assert_eq!(load(&sources, "staging").mesh.unwrap().services.len(), 1);
    }

    #[test]
    fn what_an_environment_can_not_change_is_said() {
        insta::assert_snapshot!(findings(
            "service c { port 80 }
override service aa { timeout \"2s\" }
override service a { route ruest { timeout \"1s\" }; route other; timout \"1s\"; timeout \"1s\"; timeout \"2s\" }
override service a { timeout \"1s\" }
override service b { remove route x; remove calls a; calls a }
override subset v1 { labels v=\"two\" }
remove route old
"
        ));
    }

    #[test]
    fn what_is_overridden_may_be_in_a_file_that_can_not_be_read() {
        let sources = test_util::sources(&[
            ("a.kdl", "service a {\n<<<<<<< x\n=======\n>>>>>>> y\n}\n"),
            (
                "environments/prod/a.kdl",
                "override service a { timeout \"1s\" }",
            ),
            ("mesh.kdl", MESH),
        ]);
        let analysed = load(&sources, "prod");
        let codes = analysed.diagnostics.iter().map(|one| one.code);
        let codes: Vec<&str> = codes.filter(|code| *code != SHARED_DOMAIN).collect();
        assert_eq!(codes, ["MSH0020"]);
    }

    #[test]
    fn a_folder_of_no_environment_is_said() {
        let sources = test_util::sources(&[
            (
                "environments/stagin/a.kdl",
                "override service a { timeout \"1s\" }",
            ),
            ("mesh.kdl", MESH),
        ]);
        insta::assert_snapshot!(test_util::render(
            &sources,
            &load(&sources, "default").diagnostics
        ));
    }
}
