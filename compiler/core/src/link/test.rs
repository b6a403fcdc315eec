//! Tests: for which environments they are, and that they speak of what there is.

use std::collections::BTreeMap;

use mesh_bundle::slice;
use mesh_syntax::{Diagnostic, Span};

use super::{Linker, dangling};
use crate::code;
use crate::linked;
use crate::model::{self, Spanned};
use crate::suggest;
use crate::{DEFAULT_ENVIRONMENT, overlay};

impl Linker<'_, '_> {
    /// The tests of the environment that is compiled, in the order of outputs; reports what they name and nothing has.
    pub(super) fn tests(
        &mut self,
        declared: &[model::Test],
        services: &[linked::Service],
    ) -> Vec<model::Test> {
        let mut tests: Vec<model::Test> = Vec::new();
        for test in declared {
            self.check_environments(test);
            let own = self.context.environment;
            let mut named = test.environments.iter();
            if test.environments.is_empty() || named.any(|name| name.value == own) {
                tests.push(test.clone());
            }
        }
        tests.sort_by(|a, b| (&a.name.value, a.span).cmp(&(&b.name.value, b.span)));
        self.check_tests(&tests, services);
        tests
    }

    /// A test for an environment that is none would never be run, and nobody would know.
    fn check_environments(&mut self, test: &model::Test) {
        let path = self.context.sources.path(test.span.file);
        let folder = overlay::folder_of(path, self.context.root_path);
        let root = self.root;
        let declared = || root.environments.iter().map(|name| name.value.as_str());
        for name in &test.environments {
            let known = [DEFAULT_ENVIRONMENT].into_iter().chain(declared());
            if known.clone().all(|known| known != name.value) {
                let near = suggest::nearest(&name.value, known);
                let finding = dangling(name, "environment", near);
                self.report(match near {
                    Some(_) => finding,
                    None => finding.help("name one that `mesh` declares, or `default`"),
                });
            } else if let Some(folder) = folder.filter(|folder| *folder != name.value) {
                let message = format!(
                    "this file belongs to `{folder}`, and so its tests are never run in `{}`",
                    name.value
                );
                let finding = Diagnostic::error(code::EXCLUSIVE, name.span, message);
                self.report(finding.help(
                    "leave the environment out, or move the test to a file that all environments share",
                ));
            }
        }
    }

    fn check_tests(&mut self, tests: &[model::Test], services: &[linked::Service]) {
        let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
        for test in tests {
            // An identity may be of another mesh.
            let from = test.request.from.as_ref();
            if let Some(from) = from.filter(|from| !from.value.starts_with("spiffe://")) {
                self.find_service(from);
            }
            if let Some(to) = self.find_service(&test.request.to) {
                self.check_protocol(&test.request, &services[to.index()]);
            }
            for expect in &test.expect {
                let of_shares = expect
                    .shares
                    .iter()
                    .filter_map(|share| share.service.as_ref());
                for service in expect.service.iter().chain(of_shares) {
                    self.find_service(service);
                }
                if let Some(name) = &expect.authorizer {
                    self.check_authorizer(name);
                }
            }
            if let Some(first) = seen.insert(&test.name.value, test.name.span) {
                self.report(
                    Diagnostic::error(
                        code::DUPLICATE_DEFINITION,
                        test.name.span,
                        format!("two tests are called \"{}\"", test.name.value),
                    )
                    .label(first, "the other one")
                    .help("a report tells tests apart by their names"),
                );
            }
        }
    }

    fn check_authorizer(&mut self, name: &Spanned<String>) {
        let names = || self.scope.authorizers().map(|one| one.name.value.as_str());
        if self.context.incomplete || names().any(|known| known == name.value) {
            return;
        }
        let near = suggest::nearest(&name.value, names());
        let finding = dangling(name, "authorizer", near);
        self.report(finding);
    }

    /// A `request` goes to a port that speaks HTTP, a `connect` to one of bytes.
    fn check_protocol(&mut self, request: &model::TestRequest, service: &linked::Service) {
        let mut ports = service.ports.iter();
        let port = match &request.port {
            Some(named) => ports.find(|port| port.number.value == named.value),
            None => ports.next(),
        };
        let Some(port) = port else {
            return;
        };
        let carries_bytes = matches!(port.protocol, slice::Protocol::Tcp | slice::Protocol::Tls);
        if carries_bytes == request.is_connection {
            return;
        }
        let (message, instead) = if carries_bytes {
            (
                "carries bytes, to which no request is sent",
                "connect from=… to=…",
            )
        } else {
            (
                "takes requests, and a connection alone says nothing",
                "request GET \"/\" from=… to=…",
            )
        };
        let (number, name) = (port.number.value, &service.name.value);
        self.report(
            Diagnostic::error(
                code::WRONG_TYPE,
                request.span,
                format!("the port {number} of `{name}` {message}"),
            )
            .label(port.number.span, "the port")
            .help(format!("write `{instead}`, or name another `port=`")),
        );
    }
}

#[cfg(test)]
mod tests {
    use mesh_syntax::SourceSet;

    use crate::{DEFAULT_ENVIRONMENT, Input, LinkedMesh};

    const MESH: &str = "mesh m { trust-domain \"m.example\"; environment prod staging }
service web { port 80; endpoints { static \"10.0.0.1:80\" }; calls a }
service a { port 80; endpoints { static \"10.0.0.2:80\" }; allow web }
";

    fn load(path: &str, line: &str, environment: &str) -> (Option<LinkedMesh>, Vec<String>) {
        let mut sources = SourceSet::new();
        let test =
            format!("test \"x\" {{ {line}; request GET \"/\" from=web to=a; expect allowed }}");
        sources.add("mesh.kdl", MESH.as_bytes().to_vec());
        sources.add(path, test.into_bytes());
        let analysed = crate::load(Input {
            sources: &sources,
            environment,
            root_path: "",
        });
        let found = analysed.diagnostics.into_iter();
        let found =
            found.filter(|one| one.message.contains("environment") || one.message.contains("file"));
        let said = found.map(|one| format!("{}: {}", one.message, one.help.unwrap_or_default()));
        (analysed.mesh, said.collect())
    }

    #[test]
    fn a_test_is_for_the_environments_that_it_names() {
        let has = |line: &str, environment: &str| {
            let (mesh, found) = load("a.test.kdl", line, environment);
            assert_eq!(found, Vec::<String>::new());
            mesh.unwrap().tests.len() == 1
        };
        assert!(has("environment prod default", "prod"));
        assert!(has("environment prod default", DEFAULT_ENVIRONMENT));
        assert!(!has("environment prod default", "staging"));
    }

    #[test]
    fn a_test_that_would_never_be_run_is_an_error() {
        let (_, found) = load("a.test.kdl", "environment prdo", DEFAULT_ENVIRONMENT);
        assert_eq!(
            found,
            ["there is no environment `prdo`: did you mean `prod`?"]
        );
        let (_, found) = load("a.test.kdl", "environment nowhere", "prod");
        assert_eq!(
            found,
            ["there is no environment `nowhere`: name one that `mesh` declares, or `default`"]
        );
        let (_, found) = load(
            "environments/prod/a.test.kdl",
            "environment staging",
            "prod",
        );
        assert!(
            found.len() == 1 && found[0].starts_with("this file belongs to `prod`"),
            "{found:?}"
        );
    }
}
