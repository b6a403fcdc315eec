//! What the names in arguments and properties stand for, so that whoever asks where a name is defined, who uses it
//! or which names may stand here reads it from the declarations.

/// What a name is to the word it stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The word defines it.
    Defines(Symbol),
    /// It is defined elsewhere.
    Refers(Symbol),
}

/// A kind of thing that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Symbol {
    /// The mesh itself.
    Mesh,
    /// A service, gateway or external: they share their names.
    Service,
    /// A service, or a word for many: `any`, `unauthenticated`.
    Who,
    /// A service or `unauthenticated`.
    Caller,
    /// A gateway, where no other service will do.
    Gateway,
    /// A policy, the mesh's own or one of the standard library.
    Policy,
    /// A team.
    Team,
    /// A `jwt`.
    Jwt,
    /// An `authorizer`.
    Authorizer,
    /// An environment.
    Environment,
    /// A subset of the service that the word or its surroundings name.
    Subset,
    /// A route of such a service.
    Route,
    /// In a gateway's route a service, else a subset.
    Destination,
    /// What the argument before it says: `jwt`, `service`, `route`.
    OfKind,
    /// A code such as MSH0403.
    Code,
}

#[cfg(test)]
mod tests {
    use crate::keyword::KEYWORDS;
    use crate::value::{self, Kind};

    /// Names of things that no policy defines: key material, and Kubernetes' own.
    const OF_OTHERS: &[(&str, &str)] = &[
        ("kubernetes", "namespace"),
        ("kubernetes", "name"),
        ("tls", "certificate"),
        ("tls", "trust"),
        ("certificate", "NAME"),
    ];

    #[test]
    fn every_name_says_what_it_names() {
        let is_name = |kind: &'static Kind| {
            std::ptr::eq(kind, &raw const value::NAME) || std::ptr::eq(kind, &raw const value::WHO)
        };
        for keyword in KEYWORDS {
            let args = keyword.args.leading.iter().chain(&keyword.args.rest);
            let args = args.map(|arg| (arg.name, arg.kind, arg.names));
            let props = keyword.props.iter();
            let props = props.map(|prop| (prop.name, prop.kind, prop.names));
            for (name, kind, names) in args.chain(props) {
                let known = names.is_some() || OF_OTHERS.contains(&(keyword.name, name));
                assert!(
                    !is_name(kind) || known,
                    "`{}` does not say what its {name} names: `.refers(Symbol::…)`",
                    keyword.name
                );
            }
        }
    }
}
