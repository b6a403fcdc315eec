//! Pages of what linking reports about names, identities and levels.

use mesh_compiler::code;

super::declare_pages! {
    /// ## What it flags
    /// A name that nothing has: a service in `calls` or `allow`, a policy in `use`, a route in
    /// `calls … route=`.
    /// ## Why it matters
    /// What the line says would have no effect.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; allow productpag }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// ```
    /// ```kdl good
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; allow productpage }
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews }
    /// ```
    code::DANGLING_REFERENCE => "reference to something that does not exist";

    /// ## What it flags
    /// A name or a file that could be meant for two: a file that the patterns of two teams take.
    /// ## Why it matters
    /// Whoever is asked to review must be one. Neither team wins by standing first.
    /// ## Examples
    /// ```kdl bad
    /// mesh example {
    ///     trust-domain "example.test"
    ///     team shop { owns "**"; service reviews }
    ///     team money { owns "*.kdl" }
    /// }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" } }
    /// ```
    /// ```kdl good
    /// mesh example {
    ///     trust-domain "example.test"
    ///     team shop { owns "*.kdl"; service reviews }
    ///     team money { owns "money/**" }
    /// }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" } }
    /// ```
    code::AMBIGUOUS => "name or file that could be meant for two";

    /// ## What it flags
    /// Two definitions of one name, in one file or in several.
    /// ## Why it matters
    /// There is one definition per name, never spread over files, so that whoever reads it has read
    /// everything.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" } }
    /// service reviews { port 9081; endpoints { static "10.0.0.8:9081" } }
    /// ```
    /// ```kdl good
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" } }
    /// ```
    code::DUPLICATE_DEFINITION => "one name defined twice";

    /// ## What it flags
    /// A name that exists, but as something else: a policy where a service is wanted, a service where
    /// a subset is wanted.
    /// ## Why it matters
    /// Services, gateways and policies share names in people's heads; the compiler asks what was meant.
    /// ## Examples
    /// ```kdl bad
    /// policy careful { timeout "2s" }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; calls careful }
    /// ```
    /// ```kdl good
    /// policy careful { timeout "2s" }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; use careful }
    /// ```
    code::WRONG_KIND => "name of something of another kind";

    /// ## What it flags
    /// One field set by two sources of one level: two policies that a service uses, or two services of
    /// one identity that call somebody differently.
    /// ## Why it matters
    /// Neither wins by being first or last. Levels decide; within a level nothing does.
    /// ## Examples
    /// ```kdl bad
    /// policy quick { timeout "1s" }
    /// policy patient { timeout "9s" }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; use quick patient }
    /// ```
    /// ```kdl good
    /// policy quick { timeout "1s" }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" }; use quick }
    /// ```
    code::TWO_SOURCES => "one field set by two sources of one level";

    /// ## What it flags
    /// A host that two services claim on a common port, an address by which both are reached, or an endpoint that both
    /// have. What has no proxy (`external`, `unmeshed`) may share endpoints: there `Host` says who is meant.
    /// ## Why it matters
    /// Requests name services by host. One of the two would take the other's traffic. At an endpoint there is one proxy,
    /// with one identity: callers of the other service would meet a stranger, and refuse it.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 80; host "shop.example"; endpoints { static "10.0.0.7:80" } }
    /// service details { port 80; host "shop.example"; endpoints { static "10.0.0.8:80" } }
    /// ```
    /// ```kdl good
    /// service reviews { port 80; host "reviews.shop.example"; endpoints { static "10.0.0.7:80" } }
    /// service details { port 80; host "details.shop.example"; endpoints { static "10.0.0.8:80" } }
    /// ```
    code::HOST_CLAIMED_TWICE => "host claimed by two services";

    /// ## What it flags
    /// An identity that a service cannot have: of a foreign trust domain, reserved for the mesh's own
    /// programs, or another service's.
    /// ## Why it matters
    /// Whoever has an identity may do all that its owner may.
    /// ## Examples
    /// ```kdl bad
    /// service reviews { port 80; identity "spiffe://elsewhere.example/service/reviews"; endpoints { static "10.0.0.7:80" } }
    /// ```
    /// ```kdl good
    /// service reviews { port 80; identity "spiffe://example.test/shop/reviews"; endpoints { static "10.0.0.7:80" } }
    /// ```
    code::IDENTITY => "identity that is not the service's own";

    /// ## What it flags
    /// A caller that asks in `calls` for more than its callee grants: a longer timeout, more attempts,
    /// another cause.
    /// ## Why it matters
    /// The callee's team answers for its load. A caller may only tighten, unless the callee says
    /// `callers-may-extend`.
    /// ## Examples
    /// ```kdl bad
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews { timeout "9s" } }
    /// service reviews { port 80; endpoints { static "10.0.0.7:80" }; allow productpage; timeout "2s" }
    /// ```
    /// ```kdl good
    /// service productpage { port 80; endpoints { static "10.0.0.1:80" }; calls reviews { timeout "1s" } }
    /// service reviews { port 80; endpoints { static "10.0.0.7:80" }; allow productpage; timeout "2s" }
    /// ```
    code::CALLER_LOOSENS => "caller asks for more than the callee grants";

    /// ## What it flags
    /// Environments that have one SPIFFE trust domain.
    /// ## Why it matters
    /// Proxies believe every certificate of their trust domain. What staging issues would then be good in
    /// production, and whoever can deploy to the one can enter the other.
    /// ## Examples
    /// ```kdl bad
    /// mesh example { trust-domain "example.test"; environment staging prod }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" } }
    /// ```
    /// ```kdl good
    /// mesh example { trust-domain "example.test"; environment staging prod }
    /// service reviews { port 9080; endpoints { static "10.0.0.7:9080" } }
    /// // file: environments/staging/mesh.kdl
    /// override mesh example { trust-domain "staging.example.test" }
    /// ```
    code::SHARED_TRUST_DOMAIN => "environments with one trust domain";
}
