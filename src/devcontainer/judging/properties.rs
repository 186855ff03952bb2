//! What becomes of each property of devcontainer.json, of compose files, and of each flag in `runArgs`.
//!
//! The gate uses these tables: a name that they lack is unknown to it, and if the name alone decides, its
//! message is the text given here. The tables of docs/reference/properties.md are generated from them.

use super::verdict::Gate;
use crate::devcontainer::reading::document::Node;

/// What becomes of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is used as it is written.
    Passes,
    /// Its value decides.
    Rule,
    /// Hatchery sets it itself: what a repository says does not count.
    Own,
    /// The drone runs without it.
    LeftOut,
    /// Nothing is spawned unless the repository is trusted.
    Refused,
    /// Refused; left out instead if drones run in a runtime that makes it unnecessary.
    Contained,
}

impl Fate {
    /// What docs/reference/properties.md calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Rule => "held to a rule",
            Self::Own => "hatchery's own",
            Self::LeftOut => "left out",
            Self::Refused => "refused",
            Self::Contained => "refused; left out with `docker.runtime`",
        }
    }
}

/// One property.
#[derive(Debug)]
pub struct Property {
    /// Its name, as a configuration has it.
    pub name: &'static str,
    /// What becomes of it.
    pub fate: Fate,
    /// Why, by which rule, or what it does. The gate says the same of what it leaves out or refuses.
    pub says: &'static str,
}

/// The properties of one kind of object, in alphabetical order.
#[derive(Debug)]
pub struct Table {
    /// The object, as a heading.
    pub title: &'static str,
    /// All that the gate knows.
    pub properties: &'static [Property],
}

/// Why a property that is in no table is refused.
pub const UNKNOWN: &str = "hatchery does not know this property";

/// Why hatchery's own properties are left out.
pub const OURS: &str = "hatchery sets it itself";

impl Table {
    /// The property of this name.
    pub fn find(&self, name: &str) -> Option<&'static Property> {
        self.properties
            .iter()
            .find(|property| property.name == name)
    }

    /// Decides a property whose name alone matters: returns whether it passes as it is written, because of
    /// trust. `None` if its value must be judged. `path` is its name in messages.
    pub(super) fn settle(
        &self,
        name: &str,
        path: &str,
        node: &Node,
        gate: &mut Gate,
    ) -> Option<bool> {
        let Some(property) = self.find(name) else {
            return Some(gate.refuse(node, path, UNKNOWN));
        };
        let why = match property.fate {
            Fate::Passes | Fate::Rule => return None,
            // It asks for nothing.
            _ if node.is_off() => return Some(false),
            Fate::Refused => return Some(gate.refuse(node, path, property.says)),
            Fate::Contained => return Some(gate.refuse_privileges(node, path, property.says)),
            Fate::LeftOut => property.says,
            Fate::Own => OURS,
        };
        gate.leave_out(node.line, path, why);
        Some(false)
    }
}

const fn passes(name: &'static str, says: &'static str) -> Property {
    of(name, Fate::Passes, says)
}

const fn rule(name: &'static str, says: &'static str) -> Property {
    of(name, Fate::Rule, says)
}

const fn own(name: &'static str, says: &'static str) -> Property {
    of(name, Fate::Own, says)
}

const fn left_out(name: &'static str, says: &'static str) -> Property {
    of(name, Fate::LeftOut, says)
}

const fn contained(name: &'static str, says: &'static str) -> Property {
    of(name, Fate::Contained, says)
}

const fn refused(name: &'static str, says: &'static str) -> Property {
    of(name, Fate::Refused, says)
}

const fn of(name: &'static str, fate: Fate, says: &'static str) -> Property {
    Property { name, fate, says }
}

const ADDRESSES: &str = "addresses are Docker's to give";
const BUILD_ROOT: &str = "root in the build would be root on this server";
const CACHES: &str = "images by their public names";
const CAPABILITIES: &str = "Docker's own capabilities, `NET_ADMIN` and `SYS_PTRACE`";
const COMMAND: &str = "`spawn` runs it in the drone";
const CONTEXT: &str = "a directory of the repository";
const DEVICES: &str =
    "`/dev/net/tun`, which hatchery gives where there is a tailnet, and `/dev/fuse` are left out";
const DOCKERFILE: &str = "a file of the repository";
const EDITORS: &str = "for editors";
const FILES: &str = "files of the repository";
/// Why a part of this server is refused.
pub const HOST: &str = "it hands over a part of this server";
const IMAGE: &str = "an image by its public name";
const IPC: &str = "`private` and `none` are left out";
const KEPT: &str = "what was built before is used again where it is the same";
const LABELS: &str = "none that begins with `hatchery.`, `devcontainer.` or `com.docker.`";
const LIMIT: &str = "the drone's limits are the configuration's";
const LOG: &str = "three files of 10 MB for each container";
const NO_SUPPORT: &str = "hatchery does not support it";
const OOM: &str = "which processes end when memory is short is this server's to say";
const PLATFORM: &str = "a platform of Docker's, such as `linux/amd64`";
const PORTS: &str = "every port of the drone is reachable over the tailnet, none on this server";
const READ_ONLY: &str = "hatchery puts files of its own into the drone";
const REAL_TIME: &str = "the real-time scheduler is this server's";
const SECURITY: &str = "`no-new-privileges`; `seccomp=unconfined` and `label=disable` are left out";
const SERVERS_FILE: &str = "it names a file of this server";
const STAGE: &str = "the name of a stage";
const SYSCTLS: &str = "those of the container's network: `net.…`";
const TERMINAL: &str = "a drone has no terminal of its own";
const THERE: &str = "an image is pulled if it is not on this server";
const ULIMITS: &str = "any but `rtprio` and `nice`";
const UNPUBLISHED: &str = "what is built is published nowhere";
const VARIABLES: &str = "names of letters, digits, `_`, `.` and `-`, not beginning with a digit";
const BUILD_VARIABLES: &str = "names as in `containerEnv`; each value on one line";
const VOLUMES_FROM: &str = "it would mount volumes of other containers";
const WINDOWS: &str = "it is for Windows";

/// Properties of devcontainer.json.
pub const DEVCONTAINER: Table = Table {
    title: "Properties of devcontainer.json",
    properties: &[
        passes("$schema", EDITORS),
        left_out("appPort", PORTS),
        rule("build", "a Dockerfile of the repository: see `build` below"),
        rule("capAdd", CAPABILITIES),
        rule("containerEnv", VARIABLES),
        rule(
            "containerUser",
            "a user by name or number; ssh logs in as this user if there is no `remoteUser`. The container runs as root",
        ),
        rule("context", "the older form of `build.context`"),
        passes("customizations", EDITORS),
        passes("devPort", EDITORS),
        rule("dockerComposeFile", "files of the repository: see below"),
        rule("dockerFile", "the older form of `build.dockerfile`"),
        passes("extensions", EDITORS),
        rule(
            "features",
            "from registries on the internet, or from a directory of the repository",
        ),
        passes("forwardPorts", EDITORS),
        rule("hostRequirements", "any but `gpu`, which is left out"),
        rule("image", IMAGE),
        passes("init", "as Docker's `--init`"),
        refused(
            "initializeCommand",
            "it would run on this server, not in the drone",
        ),
        rule(
            "mounts",
            "volumes, which become the drone's own, `tmpfs`, and [files of the repository](../devcontainers.md#where-the-clone-is)",
        ),
        passes("name", EDITORS),
        passes("onCreateCommand", COMMAND),
        passes("otherPortsAttributes", EDITORS),
        passes(
            "overrideCommand",
            "whether the container sleeps or runs its image's command",
        ),
        rule(
            "overrideFeatureInstallOrder",
            "features from registries on the internet",
        ),
        passes("portsAttributes", EDITORS),
        passes(
            "postAttachCommand",
            "an editor runs it when it attaches, `spawn` does not",
        ),
        passes("postCreateCommand", COMMAND),
        passes("postStartCommand", "run in the drone at each of its starts"),
        contained(
            "privileged",
            "root in the drone would be root on this server",
        ),
        rule("remoteEnv", VARIABLES),
        rule(
            "remoteUser",
            "a user by name or number; ssh logs in as this user",
        ),
        rule("runArgs", "flags of `docker run`: see below"),
        rule("runServices", "services of the compose file"),
        passes("secrets", "for editors; hatchery sets none"),
        rule("securityOpt", SECURITY),
        rule(
            "service",
            "a service of the compose file, which becomes the drone",
        ),
        passes("settings", EDITORS),
        passes("shutdownAction", EDITORS),
        passes("updateContentCommand", COMMAND),
        own(
            "updateRemoteUserUID",
            "users keep the numbers that the image gives them",
        ),
        passes("userEnvProbe", "as the devcontainer CLI does"),
        passes(
            "waitFor",
            "[`spawn`](../every-day.md#lifecycle-commands) waits for it",
        ),
        rule("workspaceFolder", "an absolute path, where tools open"),
        rule(
            "workspaceMount",
            "a volume or the repository: it says [where the clone is](../devcontainers.md#where-the-clone-is)",
        ),
    ],
};

/// Properties of `build` in devcontainer.json.
pub const BUILD: Table = Table {
    title: "`build` in devcontainer.json",
    properties: &[
        rule("args", BUILD_VARIABLES),
        rule("cacheFrom", CACHES),
        rule("context", CONTEXT),
        rule("dockerfile", DOCKERFILE),
        rule(
            "options",
            "`--add-host`, `--build-arg NAME=VALUE`, `--force-rm`, `--label`, `--network=none`, `--no-cache`, \
             `--platform`, `--progress`, `--pull`, `--shm-size` and `--ulimit`",
        ),
        rule("target", STAGE),
    ],
};

/// Top-level elements of a compose file.
pub const COMPOSE: Table = Table {
    title: "Top-level elements of compose files",
    properties: &[
        rule("configs", "with a `file` of the repository"),
        rule("include", FILES),
        refused("models", NO_SUPPORT),
        own("name", "the project has the drone's name"),
        rule("networks", "at most six bridges of the project's own"),
        rule("secrets", "with a `file` of the repository"),
        rule("services", "at most 16: see below"),
        passes("version", "it changes nothing"),
        rule("volumes", "of the project's own, with Docker's own driver"),
    ],
};

/// Properties of a service in a compose file.
pub const SERVICE: Table = Table {
    title: "Properties of services in compose files",
    properties: &[
        refused("annotations", "they can steer the runtime on this server"),
        left_out("attach", "compose runs in the background"),
        refused("blkio_config", HOST),
        rule("build", "a Dockerfile of the repository: see `build` below"),
        rule("cap_add", CAPABILITIES),
        passes("cap_drop", ""),
        refused("cgroup", HOST),
        refused("cgroup_parent", HOST),
        passes("command", ""),
        rule("configs", "top-level `configs`"),
        own("container_name", "containers are named after the drone"),
        left_out("cpu_count", LIMIT),
        left_out("cpu_percent", LIMIT),
        left_out("cpu_period", LIMIT),
        left_out("cpu_quota", LIMIT),
        refused("cpu_rt_period", REAL_TIME),
        refused("cpu_rt_runtime", REAL_TIME),
        left_out("cpu_shares", LIMIT),
        left_out("cpus", LIMIT),
        left_out("cpuset", LIMIT),
        refused("credential_spec", WINDOWS),
        passes("depends_on", ""),
        left_out(
            "deploy",
            "limits, devices and replicas are this server's to give",
        ),
        left_out("develop", "`docker compose watch` is not run"),
        refused("device_cgroup_rules", HOST),
        rule("devices", DEVICES),
        passes("dns", ""),
        passes("dns_opt", ""),
        passes("dns_search", ""),
        passes("domainname", ""),
        passes("entrypoint", ""),
        rule(
            "env_file",
            "files of the repository, or [handed in](../devcontainers.md#compose-files)",
        ),
        rule(
            "environment",
            "a name without a value takes that of `.env`, or is left out",
        ),
        passes("expose", ""),
        rule(
            "extends",
            "a service of the same file or of another file of the repository",
        ),
        refused("external_links", "a drone reaches no container of another"),
        passes("extra_hosts", ""),
        refused("gpus", HOST),
        passes("group_add", ""),
        passes(
            "healthcheck",
            "except for `start_interval`, which is ignored",
        ),
        passes(
            "hostname",
            "except for the drone's own service, which has the drone's name",
        ),
        rule(
            "image",
            "an image by its public name; beside `build` any name",
        ),
        passes("init", ""),
        rule("ipc", IPC),
        refused("isolation", WINDOWS),
        refused("label_file", NO_SUPPORT),
        rule("labels", LABELS),
        passes("links", ""),
        own("logging", LOG),
        refused("mac_address", ADDRESSES),
        left_out("mem_limit", LIMIT),
        left_out("mem_reservation", LIMIT),
        left_out("mem_swappiness", LIMIT),
        left_out("memswap_limit", LIMIT),
        refused("models", NO_SUPPORT),
        rule(
            "network_mode",
            "`none`, or `service:NAME` of the same project",
        ),
        rule(
            "networks",
            "with `aliases` and `priority`; addresses are Docker's to give",
        ),
        left_out("oom_kill_disable", LIMIT),
        refused("oom_score_adj", OOM),
        refused("pid", HOST),
        left_out("pids_limit", LIMIT),
        rule("platform", PLATFORM),
        left_out("ports", PORTS),
        refused("post_start", NO_SUPPORT),
        refused("pre_stop", NO_SUPPORT),
        contained(
            "privileged",
            "root in the service would be root on this server",
        ),
        passes("profiles", ""),
        refused("provider", "it would run a program on this server"),
        own(
            "pull_policy",
            "an image is pulled if it is not on this server",
        ),
        own(
            "pull_refresh_after",
            "an image is pulled if it is not on this server",
        ),
        left_out("read_only", READ_ONLY),
        passes(
            "restart",
            "except for the drone's own service, which `burrow` and `unburrow` control",
        ),
        refused("runtime", HOST),
        left_out("scale", "each service has one container"),
        rule("secrets", "top-level `secrets`"),
        rule("security_opt", SECURITY),
        passes("shm_size", ""),
        passes("stdin_open", ""),
        passes("stop_grace_period", ""),
        passes("stop_signal", ""),
        refused("storage_opt", LIMIT),
        rule("sysctls", SYSCTLS),
        passes("tmpfs", ""),
        passes("tty", ""),
        rule("ulimits", ULIMITS),
        refused(
            "use_api_socket",
            "access to Docker is equivalent to root on this server",
        ),
        rule(
            "user",
            "a user by name or number, otherwise it is left out. The drone's own service runs as root, and ssh logs in as this user",
        ),
        refused("userns_mode", HOST),
        refused("uts", HOST),
        rule(
            "volumes",
            "volumes of the project, `tmpfs`, and [files of the repository](../devcontainers.md#where-the-clone-is)",
        ),
        refused("volumes_from", VOLUMES_FROM),
        passes("working_dir", ""),
    ],
};

/// Properties of `build` in a service of a compose file.
pub const SERVICE_BUILD: Table = Table {
    title: "`build` in compose files",
    properties: &[
        refused("additional_contexts", NO_SUPPORT),
        rule("args", BUILD_VARIABLES),
        rule("cache_from", CACHES),
        refused("cache_to", "it would write beyond the drone"),
        rule("context", CONTEXT),
        rule("dockerfile", DOCKERFILE),
        refused("dockerfile_inline", NO_SUPPORT),
        refused("entitlements", BUILD_ROOT),
        refused("extra_hosts", NO_SUPPORT),
        refused("isolation", WINDOWS),
        rule("labels", LABELS),
        rule("network", "`none` or `default`"),
        left_out("no_cache", KEPT),
        left_out("platforms", "images are for this server's platform"),
        refused("privileged", BUILD_ROOT),
        left_out("provenance", UNPUBLISHED),
        left_out("pull", THERE),
        left_out("sbom", UNPUBLISHED),
        refused("secrets", "a build gets no secrets"),
        passes("shm_size", ""),
        refused("ssh", "this server's keys are not the repository's"),
        own("tags", "an image has a name of the drone's own"),
        rule("target", STAGE),
        refused("ulimits", NO_SUPPORT),
    ],
};

/// Flags of `docker run` in `runArgs`, by their long names.
pub const RUN_ARGS: Table = Table {
    title: "Flags in `runArgs`",
    properties: &[
        passes("add-host", ""),
        rule("cap-add", CAPABILITIES),
        passes("cap-drop", ""),
        refused("cgroup-parent", HOST),
        refused("cgroupns", HOST),
        refused("cidfile", SERVERS_FILE),
        left_out("cpu-period", LIMIT),
        left_out("cpu-quota", LIMIT),
        left_out("cpu-shares", LIMIT),
        left_out("cpus", LIMIT),
        left_out("cpuset-cpus", LIMIT),
        left_out("cpuset-mems", LIMIT),
        left_out("detach", TERMINAL),
        rule("device", DEVICES),
        refused("device-cgroup-rule", HOST),
        passes("dns", ""),
        passes("dns-option", ""),
        passes("dns-search", ""),
        rule("env", "`NAME=VALUE`; a name alone is left out"),
        rule(
            "env-file",
            "a file of the repository, or [handed in](../devcontainers.md#compose-files)",
        ),
        passes("expose", ""),
        refused("gpus", HOST),
        passes("group-add", ""),
        passes("health-cmd", ""),
        passes("health-interval", ""),
        passes("health-retries", ""),
        passes("health-start-period", ""),
        passes("health-timeout", ""),
        own("hostname", "the drone's name"),
        passes("init", ""),
        left_out("interactive", TERMINAL),
        rule("ipc", IPC),
        rule("label", LABELS),
        refused("label-file", SERVERS_FILE),
        own("log-driver", LOG),
        own("log-opt", LOG),
        left_out("memory", LIMIT),
        left_out("memory-reservation", LIMIT),
        left_out("memory-swap", LIMIT),
        left_out("memory-swappiness", LIMIT),
        rule("mount", "as `mounts`"),
        own("name", "the drone's name"),
        rule(
            "network",
            "`bridge` and `default` are left out: a drone has a network of its own",
        ),
        own("network-alias", "the drone's name"),
        passes("no-healthcheck", ""),
        left_out("oom-kill-disable", LIMIT),
        refused("oom-score-adj", OOM),
        refused("pid", HOST),
        left_out("pids-limit", LIMIT),
        passes("platform", ""),
        contained(
            "privileged",
            "root in the drone would be root on this server",
        ),
        left_out("publish", PORTS),
        left_out("publish-all", PORTS),
        own("pull", THERE),
        left_out("read-only", READ_ONLY),
        own("restart", "the drone's restart policy is its wanted state"),
        left_out("rm", "a drone stays until it is slain"),
        refused("runtime", HOST),
        rule("security-opt", SECURITY),
        passes("shm-size", ""),
        left_out("sig-proxy", TERMINAL),
        passes("stop-signal", ""),
        passes("stop-timeout", ""),
        refused("storage-opt", LIMIT),
        rule("sysctl", SYSCTLS),
        passes("tmpfs", ""),
        left_out("tty", TERMINAL),
        rule("ulimit", ULIMITS),
        rule(
            "user",
            "a user by name or number; ssh logs in as this user if `remoteUser` and `containerUser` name none",
        ),
        refused("userns", HOST),
        refused("uts", HOST),
        rule("volume", "as `mounts`"),
        refused("volumes-from", VOLUMES_FROM),
        passes("workdir", ""),
    ],
};

/// All tables, in the order of docs/reference/properties.md.
pub const ALL: [&Table; 6] = [
    &DEVCONTAINER,
    &BUILD,
    &COMPOSE,
    &SERVICE,
    &SERVICE_BUILD,
    &RUN_ARGS,
];
