//! Where the two differ, and why that is wanted. The documentation is made of it.

/// A difference that is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference {
    /// The case.
    pub(crate) case: &'static str,
    /// A part of what it is about; empty: all.
    pub(crate) about: &'static str,
    /// A part of what is seen of meshp.
    pub(crate) ours: &'static str,
    /// A part of what is seen of Envoy.
    pub(crate) theirs: &'static str,
    /// Why.
    pub(crate) why: &'static str,
}

impl Difference {
    pub(crate) fn is_of(&self, case: &str, about: &str) -> bool {
        self.case == case && about.contains(self.about)
    }

    pub(crate) fn is(&self, ours: &str, theirs: &str) -> bool {
        ours != theirs && ours.contains(self.ours) && theirs.contains(self.theirs)
    }
}

pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        case: "fields",
        about: "GET /h-not x-kind=x x-kind=a",
        ours: "200 h-not",
        theirs: "404",
        why: "`not` turns round what a condition asks of a header that came several times: a match wants one line, so its `not` wants one line that differs. Envoy wants none that matches.",
    },
    Difference {
        case: "fields",
        about: "?kind=x&kind=a",
        ours: "200 q-exact",
        theirs: "404",
        why: "One value of several is enough, as with headers. Envoy looks at the first alone.",
    },
    Difference {
        case: "fields",
        about: "?kind=%61",
        ours: "200 q-exact",
        theirs: "404",
        why: "Values are compared as they are meant, decoded. Envoy compares what is written.",
    },
    Difference {
        case: "spellings",
        about: "/secret\\a",
        ours: "400",
        theirs: "200 secret /secret/a",
        why: "A backslash is no character of a path (RFC 3986) and servers disagree about it, so it is refused. Envoy makes a slash of it.",
    },
    Difference {
        case: "spellings",
        about: ";",
        ours: "400",
        theirs: "200",
        why: "Some servers cut parameters off a path before they decide, so they are refused unless a route says `path-accepts semicolon`. Envoy passes them on.",
    },
    Difference {
        case: "spellings",
        about: "%c3%a9",
        ours: "%C3%A9",
        theirs: "%c3%a9",
        why: "Escapes get their one canonical form (RFC 3986 section 6.2.2.1), so that all who decide by the path read the same bytes.",
    },
    Difference {
        case: "spellings",
        about: "%zz",
        ours: "400",
        theirs: "%zz",
        why: "What is not an escape is refused. Envoy passes it on.",
    },
    Difference {
        case: "hosts",
        about: "SHOP.example",
        ours: "shop.example",
        theirs: "SHOP.example",
        why: "Hosts are passed on in their canonical form, which is lower-case; both match them in either case.",
    },
    Difference {
        case: "hosts",
        about: "shop.example.",
        ours: "200 one",
        theirs: "404",
        why: "A dot at the end is the same name (RFC 3986 section 3.2.2).",
    },
    Difference {
        case: "rewrites",
        about: "GET /up",
        ours: "GET rewrites:8080 /",
        theirs: "/up",
        why: "Where `**` stands for nothing, nothing is left of the path, which then is `/`. Envoy takes an empty one for none and leaves the old one.",
    },
    Difference {
        case: "headers",
        about: "headers /bare",
        ours: "headers:8080",
        theirs: "headers /bare",
        why: "A service without a sidecar is told the port that is dialled, where that is not the usual one (RFC 9110 section 7.2). Envoy passes on what the caller wrote.",
    },
    Difference {
        case: "redirects",
        about: "GET /scheme",
        ours: "https://redirects/scheme",
        theirs: "https://redirects:8080/scheme",
        why: "A scheme without a port means the port of that scheme: the one the request came to speaks the other. Envoy keeps the port unless it is 80 or 443.",
    },
    Difference {
        case: "cors",
        about: "OPTIONS /shared origin=https://shop.example",
        ours: "204",
        theirs: "200",
        why: "The answer to a preflight has no content, and what pages may read is no part of it (Fetch standard).",
    },
    Difference {
        case: "cors",
        about: "OPTIONS /shared origin=https://a.shop.example",
        ours: "204",
        theirs: "200",
        why: "The same.",
    },
    Difference {
        case: "cors",
        about: "OPTIONS /shared",
        ours: "204 of 0",
        theirs: "200 x-group=v1 of 1",
        why: "Sites that may not call are told so by the proxy, which decides for the service. Envoy lets the service see and answer their preflights.",
    },
    Difference {
        case: "faults",
        about: "/past",
        ours: "200",
        theirs: "503",
        why: "A fault ends on its day. Envoy knows no end.",
    },
    Difference {
        case: "statuses",
        about: "POST",
        ours: "503 after 1",
        theirs: "200 after 2",
        why: "A request that is not idempotent is tried again only where nobody can have acted on it, unless policy says `methods=any`. Envoy tries any method again.",
    },
    Difference {
        case: "statuses",
        about: "PATCH",
        ours: "503 after 1",
        theirs: "200 after 2",
        why: "The same.",
    },
    Difference {
        case: "kept",
        about: "GET /",
        ours: "200 after 2",
        theirs: "503 after 1",
        why: "A kept connection that breaks before a byte was answered is most likely one that the other end closed before: an idempotent request without a body is then sent once more (RFC 9112 section 9.3.1), beside what policy says of retries. Envoy counts it as a reset.",
    },
    Difference {
        case: "rules",
        about: "x-key=c x-key=a",
        ours: "403",
        theirs: "200",
        why: "An `allow` wants every line of a header to match, so that nobody gets in by a second one. Envoy lets in whoever has one that matches.",
    },
];
