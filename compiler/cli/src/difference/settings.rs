//! What changes besides access, routes, timeouts and retries: settings by name, before and after.

use std::collections::{BTreeMap, BTreeSet};

use mesh_bundle::spiffe::SpiffeId;
use mesh_compiler::diff::slices;
use mesh_compiler::linked::{LinkedMesh, Pool, Service};
use mesh_compiler::model::Test;
use mesh_syntax::{SourceSet, Span};

use super::collect::Meshes;
use super::named::{GUARDS, Lines, MESH, SERVICE, SERVICE_GUARDS, Widens, shown};
use super::written::{lines, place, written};
use super::{Setting, said};

/// Everything else that changed, and what changed of the guards.
pub(super) fn settings(
    meshes: &Meshes<'_>,
    touched: &BTreeSet<&SpiffeId>,
) -> (Vec<Setting>, Vec<Setting>) {
    let mut found = Found {
        meshes,
        service: None,
        settings: Vec::new(),
    };
    found.guards();
    let guards = std::mem::take(&mut found.settings);
    found.service = None;
    found.of_mesh();
    for kept in meshes.change.kept() {
        let before = meshes.change.base.service(kept.base);
        let after = meshes.change.head.service(kept.head);
        found.service = Some(after.name.value.clone());
        found.of_service(before, after);
        let is_touched = after.identities.iter().any(|id| touched.contains(id));
        if is_touched && !after.is_external() {
            found.of_inbound(before, after);
        }
    }
    (found.settings, guards)
}

struct Found<'m> {
    meshes: &'m Meshes<'m>,
    service: Option<String>,
    settings: Vec<Setting>,
}

impl Found<'_> {
    fn add(&mut self, setting: &str, widens: Widens, before: &Lines, after: &Lines) {
        let texts = |lines: &Lines, others: &Lines| -> Option<String> {
            let others: BTreeSet<&String> = others.iter().map(|(text, _)| text).collect();
            let own = lines.iter().map(|(text, _)| text.as_str());
            let own: Vec<&str> = own
                .filter(|text| !others.contains(&(*text).to_owned()))
                .collect();
            (!own.is_empty()).then(|| own.join("; "))
        };
        let (was, is) = (texts(before, after), texts(after, before));
        if was.is_none() && is.is_none() {
            return;
        }
        let at = |sources: &SourceSet, lines: &Lines, others: &Lines| {
            let new = lines
                .iter()
                .find(|line| others.iter().all(|other| other.0 != line.0));
            new.and_then(|(_, span)| span.map(|span| place(sources, span)))
        };
        let source =
            at(self.meshes.new, after, before).or_else(|| at(self.meshes.old, before, after));
        self.settings.push(Setting {
            service: self.service.clone(),
            name: setting.to_owned(),
            may_widen: widens.is_so(was.as_deref(), is.as_deref()),
            before: was,
            after: is,
            source,
            environments: Vec::new(),
        });
    }

    fn guards(&mut self) {
        let (base, head) = (self.meshes.change.base, self.meshes.change.head);
        for (setting, widens, of) in GUARDS {
            self.add(setting, *widens, &of(base), &of(head));
        }
        self.tests();
        for kept in self.meshes.change.kept() {
            let (before, after) = (base.service(kept.base), head.service(kept.head));
            self.service = Some(after.name.value.clone());
            for (setting, widens, of) in SERVICE_GUARDS {
                self.add(setting, *widens, &of(base, before), &of(head, after));
            }
        }
    }

    /// Tests that are gone, or say something else; new ones take nothing away.
    fn tests(&mut self) {
        let (base, head) = (self.meshes.change.base, self.meshes.change.head);
        let line =
            |sources: &SourceSet, test: &Test| vec![(written(sources, test.span), Some(test.span))];
        for was in &base.tests {
            let mut same = head
                .tests
                .iter()
                .filter(|is| is.name.value == was.name.value);
            let before = line(self.meshes.old, was);
            match same.next() {
                None => self.add("test", Widens::Lost, &before, &Lines::new()),
                Some(is) if said::test(was) != said::test(is) => {
                    let after = line(self.meshes.new, is);
                    self.add("test", Widens::Never, &before, &after);
                }
                Some(_) => {}
            }
        }
    }

    fn of_mesh(&mut self) {
        let (base, head) = (self.meshes.change.base, self.meshes.change.head);
        for (setting, widens, of) in MESH {
            self.add(setting, *widens, &of(base), &of(head));
        }
        let parts = |mesh: &LinkedMesh| -> BTreeMap<String, Lines> {
            let parts = mesh.jwts.iter().flat_map(|jwt| {
                said::jwt(jwt).map(|(part, text)| {
                    let name = format!("jwt {} {part}", jwt.name.value);
                    (name, vec![(text, Some(jwt.span))])
                })
            });
            parts.collect()
        };
        let (was, is) = (parts(base), parts(head));
        let nothing = Lines::new();
        for name in was.keys().chain(is.keys()).collect::<BTreeSet<_>>() {
            let of = |parts: &BTreeMap<String, Lines>| parts.get(name).unwrap_or(&nothing).clone();
            // Who verifies tokens otherwise may take others; who forwards otherwise takes the same.
            let widens = if name.ends_with(" forward") {
                Widens::Never
            } else {
                Widens::Lost
            };
            self.add(name, widens, &of(&was), &of(&is));
        }
    }

    fn of_service(&mut self, before: &Service, after: &Service) {
        let (base, head) = (self.meshes.change.base, self.meshes.change.head);
        for (setting, widens, of) in SERVICE {
            let widens = match *setting {
                "listen" if said::listens_looser(before, after) => Widens::Gained,
                "dial" if said::dials_looser(before, after) => Widens::Lost,
                "mtls" if said::mtls_looser(before, after) => Widens::Gained,
                _ => *widens,
            };
            self.add(setting, widens, &of(base, before), &of(head, after));
        }
        self.of_pools("", &before.pool, &after.pool);
        for subset in &after.subsets {
            let name = &subset.name.value;
            let was = before.subsets.iter().find(|was| was.name.value == *name);
            if let Some(was) = was
                && (was.has_own_pool || subset.has_own_pool)
            {
                self.of_pools(&format!("{name}: "), &was.pool, &subset.pool);
            }
        }
    }

    fn of_pools(&mut self, prefix: &str, before: &Pool, after: &Pool) {
        let (was, is) = (shown(before), shown(after));
        let names: BTreeSet<&str> = was.keys().chain(is.keys()).copied().collect();
        let nothing = Lines::new();
        for name in names {
            let of = |pool: &BTreeMap<&'static str, Lines>| pool.get(name).cloned();
            let (was, is) = (of(&was), of(&is));
            self.add(
                &format!("{prefix}{name}"),
                Widens::Never,
                was.as_ref().unwrap_or(&nothing),
                is.as_ref().unwrap_or(&nothing),
            );
        }
    }

    /// What its own proxy is told, where it is told something else.
    fn of_inbound(&mut self, before: &Service, after: &Service) {
        let own = |mesh: &LinkedMesh, service: &Service| {
            let slice = slices::own(mesh, service)?;
            let name = &service.name.value;
            let telemetry = slice
                .telemetry
                .iter()
                .find(|one| one.service == *name)
                .cloned();
            let inbound = slice
                .access
                .services
                .into_iter()
                .find(|one| one.service == *name)?;
            Some((inbound, telemetry))
        };
        let (base, head) = (self.meshes.change.base, self.meshes.change.head);
        let (Some((was, logged)), Some((is, logs))) = (own(base, before), own(head, after)) else {
            return;
        };
        let (old, new) = (self.meshes.old, self.meshes.new);
        let mut compare = |setting, widens, differs: bool, of: fn(&Service) -> Vec<Span>| {
            if differs {
                let was = lines(old, of(before).into_iter());
                let is = lines(new, of(after).into_iter());
                self.add(setting, widens, &was, &is);
            }
        };
        compare("telemetry", Widens::Never, logged != logs, |service| {
            let log = service.telemetry.access_log.iter().map(|log| log.span);
            let traces = service.telemetry.traces.iter().map(|traces| traces.span);
            log.chain(traces).collect()
        });
        compare(
            "audited rules",
            Widens::Never,
            was.rules != is.rules,
            |service| {
                let audited = service
                    .access
                    .iter()
                    .filter(|rule| rule.enforcement != mesh_compiler::model::Enforcement::Enforce);
                audited.filter_map(|rule| rule.source.span()).collect()
            },
        );
    }
}
