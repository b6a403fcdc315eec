//! Teams: their services become ids, and a name of a team its services.

use super::{Linker, dangling};
use crate::linked::Team;
use crate::model::{self, Spanned};
use crate::suggest;

impl<'m> Linker<'m, '_> {
    /// Every team, ascending by name.
    pub(super) fn teams(&mut self) -> Vec<Team> {
        let declared: Vec<&'m model::Team> = self.scope.teams().collect();
        declared
            .into_iter()
            .map(|team| {
                let mut services: Vec<_> = team
                    .services
                    .iter()
                    .filter_map(|name| self.find_service(name))
                    .collect();
                services.sort_unstable();
                services.dedup();
                Team {
                    name: team.name.clone(),
                    owns: team.owns.clone(),
                    services,
                    span: team.span,
                }
            })
            .collect()
    }

    /// The names of a team's services; reports a team that is not there.
    pub(super) fn team_services(&mut self, name: &Spanned<String>) -> Vec<String> {
        let Some(team) = self.find_team(name) else {
            return Vec::new();
        };
        team.services
            .iter()
            .map(|service| service.value.clone())
            .collect()
    }

    /// The team of this name; otherwise reports that there is none.
    pub(super) fn find_team(&mut self, name: &Spanned<String>) -> Option<&'m model::Team> {
        let team = self.scope.team(&name.value);
        if team.is_none() && !self.context.incomplete {
            let near = suggest::nearest(
                &name.value,
                self.scope.teams().map(|team| team.name.value.as_str()),
            );
            let finding = dangling(name, "team", near);
            self.report(match near {
                Some(_) => finding,
                None => finding.help(format!(
                    "declare it in `mesh`: `team {} {{ … }}`",
                    name.value
                )),
            });
        }
        team
    }
}
