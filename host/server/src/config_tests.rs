#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use super::*;

fn load(flags: Flags, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load_with(flags, |name| {
        variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    })
}

fn flags_in(folder: &Path) -> Flags {
    Flags { data_dir: Some(folder.to_owned()), ..Flags::default() }
}

#[test]
fn a_later_layer_wins_and_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    std::fs::write(&file, "listen = \"127.0.0.1:1001\"\nworkers = 3\nplanner_id = \"east\"\nlog = \"info\"\n").unwrap();
    let flags = Flags { listen: Some("[::1]:1003".to_owned()), ..flags_in(folder.path()) };
    let config = load(flags, &[("CHIMERA_LISTEN", "127.0.0.1:1002"), ("CHIMERA_WORKERS", "5")]).unwrap();
    assert_eq!(config.listen, Setting { value: "[::1]:1003".parse().unwrap(), source: Source::Flag("listen") });
    assert_eq!(config.workers, Setting { value: 5, source: Source::Environment("CHIMERA_WORKERS") });
    assert_eq!(config.planner_id, Setting { value: "east".to_owned(), source: Source::File(file.clone()) });
    assert_eq!(config.file, Some(file));
    let described = config.describe();
    assert!(
        described.contains(&("workers".to_owned(), "5".to_owned(), "$CHIMERA_WORKERS".to_owned())),
        "{described:?}"
    );
}

#[test]
fn without_anything_the_defaults_hold() {
    let folder = tempfile::tempdir().unwrap();
    let config = load(flags_in(folder.path()), &[]).unwrap();
    assert_eq!(config.listen, Setting::default(DEFAULT_LISTEN));
    assert_eq!(config.planner_id.value, DEFAULT_PLANNER);
    assert_eq!(config.file, None);
    assert!((1..=64).contains(&config.workers.value));
}

#[test]
fn the_confinement_has_three_names() {
    let folder = tempfile::tempdir().unwrap();
    let with = |value| load(flags_in(folder.path()), &[("CHIMERA_SANDBOX_CONFINEMENT", value)]);
    assert_eq!(with("limits-only").unwrap().sandbox_confinement.value, Confinement::LimitsOnly);
    assert_eq!(with("").unwrap().sandbox_confinement.value, Confinement::WhereKnown);
    let refused = with("none").unwrap_err().to_string();
    assert!(refused.contains("limits-only") && refused.contains("CHIMERA_SANDBOX_CONFINEMENT"), "{refused}");
}

#[test]
fn only_loopback_addresses_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for bad in ["0.0.0.0:7700", "[::]:7700", "192.168.1.4:7700", "example.com:80", "7700", "127.0.0.1"] {
        let error = load(Flags { listen: Some(bad.to_owned()), ..flags_in(folder.path()) }, &[]).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("listen (--listen): ") && text.contains("127.0.0.1:"), "{bad}: {text}");
    }
    let config = load(Flags { listen: Some("localhost:0".to_owned()), ..flags_in(folder.path()) }, &[]).unwrap();
    assert_eq!(config.listen.value.to_string(), "127.0.0.1:0");
}

#[test]
fn a_wrong_file_names_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    std::fs::write(&file, "workers = 2\nwokers = 3\n").unwrap();
    let text = load(flags_in(folder.path()), &[]).unwrap_err().to_string();
    assert!(text.contains("chimera.toml, line 2") && text.contains("wokers"), "{text}");
    std::fs::write(&file, "data_dir = \"elsewhere\"\n").unwrap();
    let text = load(flags_in(folder.path()), &[]).unwrap_err().to_string();
    assert!(text.contains("data_dir") && text.contains("CHIMERA_DATA_DIR"), "{text}");
    std::fs::write(&file, "[mcp.servers.\"No Such Name\"]\ncommand = \"x\"\n").unwrap();
    let text = load(flags_in(folder.path()), &[]).unwrap_err().to_string();
    assert!(text.contains("No Such Name") && text.contains("a-z"), "{text}");
}

#[test]
fn a_named_file_must_be_there_and_may_name_the_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.toml");
    let flags = Flags { config: Some(file.clone()), ..Flags::default() };
    let text = load(flags.clone(), &[]).unwrap_err().to_string();
    assert!(text.contains("other.toml") && text.contains("cannot be read"), "{text}");
    std::fs::write(&file, "data_dir = \"state\"\n").unwrap();
    let config = load(flags, &[]).unwrap();
    assert_eq!(config.data_dir, Setting { value: folder.path().join("state"), source: Source::File(file) });
}

#[test]
fn numbers_out_of_range_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (variables, flags) in [
        (vec![("CHIMERA_WORKERS", "0")], flags_in(folder.path())),
        (vec![("CHIMERA_WORKERS", "many")], flags_in(folder.path())),
        (vec![], Flags { workers: Some(100_000), ..flags_in(folder.path()) }),
        (vec![("CHIMERA_PLANNER_ID", "task queue")], flags_in(folder.path())),
    ] {
        assert!(matches!(load(flags, &variables), Err(ConfigError::Invalid { .. })), "{variables:?}");
    }
}

#[test]
fn a_server_of_the_file_has_its_table_s_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    std::fs::write(&file, "[mcp.servers.other]\ncommand = \"x\"\nargs = [\"a\"]\nenv = { KEY = \"hidden\" }\n")
        .unwrap();
    let config = load(flags_in(folder.path()), &[]).unwrap();
    let server = &config.mcp_servers["other"];
    assert_eq!((server.value.name.as_str(), &server.source), ("other", &Source::File(file)));
    assert!(!format!("{:?}", config.describe()).contains("hidden"), "an environment may hold secrets");
}

#[test]
fn only_a_file_that_is_not_there_is_absent() {
    use std::io::{Error, ErrorKind};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let is_absent_for = |kind| is_absent(&path, &Error::from(kind));
    assert!(is_absent_for(ErrorKind::NotFound));
    for kind in [ErrorKind::PermissionDenied, ErrorKind::IsADirectory, ErrorKind::InvalidInput, ErrorKind::Other] {
        assert!(!is_absent_for(kind), "{kind}");
    }
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert_eq!(load(flags_in(&folder.path().join("file")), &[]).unwrap().file, None, "the start tells of that");
    assert_eq!(load(flags_in(&folder.path().join("absent")), &[]).unwrap().file, None);
}

#[test]
fn a_file_that_is_there_and_cannot_be_read_is_an_error_that_names_it() {
    let refused = |path: &Path| {
        let error = load(flags_in(path.parent().unwrap()), &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    std::fs::create_dir(&file).unwrap();
    refused(&file);
    #[cfg(unix)]
    {
        std::fs::remove_dir(&file).unwrap();
        std::os::unix::fs::symlink(folder.path().join("nowhere.toml"), &file).unwrap();
        refused(&file);
    }
}

#[test]
fn a_file_that_is_no_text_or_too_large_is_malformed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    for (content, told) in [(vec![0xFF, 0xFE], "UTF-8"), (vec![b'#'; 1024 * 1024 + 1], "at most 1048576")] {
        std::fs::write(&file, content).unwrap();
        let error = load(flags_in(folder.path()), &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Malformed { .. }) && error.to_string().contains(told), "{error}");
    }
}

#[test]
fn the_store_is_a_folder_or_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let with = |value| load(flags_in(folder.path()), &[("CHIMERA_STORE", value)]);
    assert_eq!(with("sqlite").unwrap().store.value, Store::Sqlite);
    assert_eq!(with("").unwrap().store, Setting::default(Store::Sqlite));
    let config = with("postgres://chimera:hunter2@db.example/chimera").unwrap();
    assert!(matches!(&config.store.value, Store::Postgres(address) if address.secret().contains("hunter2")));
    let told = format!("{:?} {:?}", config.describe(), config);
    assert!(told.contains("postgres://db.example/chimera") && !told.contains("hunter2"), "{told}");
    for bad in ["mysql://chimera:hunter2@db/x", "postgres", "db.example:hunter2"] {
        let refused = with(bad).unwrap_err().to_string();
        assert!(refused.starts_with("store ($CHIMERA_STORE): ") && refused.contains("postgres://user:"), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}

#[test]
fn only_who_shares_a_server_shares_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let with = |store, roles: &str| {
        let flags = Flags { roles: Some(roles.to_owned()), ..flags_in(folder.path()) };
        load(flags, &[("CHIMERA_STORE", store)])
    };
    assert_eq!(with("sqlite", "all").unwrap().roles.value, Roles::all());
    assert_eq!(with("sqlite", "planner,worker,judge,api").unwrap().roles.value, Roles::all());
    let refused = with("sqlite", "worker").unwrap_err().to_string();
    assert!(refused.contains("roles (--role)") && refused.contains("CHIMERA_STORE"), "{refused}");
    let shared = with("postgres://db/chimera", "worker, api").unwrap().roles.value;
    assert_eq!((shared.agents, shared.api), ([AgentRole::Worker].into(), Api::Served));
    let one = with("postgres://db/chimera", "judge").unwrap().roles.value;
    assert_eq!((one.to_string().as_str(), one.api), ("judge", Api::HealthOnly));
    for bad in ["", "cook", "worker,", "worker;judge"] {
        let refused = with("postgres://db/chimera", bad).unwrap_err().to_string();
        assert!(refused.contains("planner, worker, judge, api"), "{bad}: {refused}");
    }
}

#[test]
fn redis_is_for_those_who_share_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let postgres = ("CHIMERA_STORE", "postgres://db/chimera");
    let with = |variables: &[(&'static str, &'static str)]| load(flags_in(folder.path()), variables);
    let config =
        with(&[postgres, ("CHIMERA_REDIS", "redis://:hunter2@r1/0"), ("CHIMERA_REDIS_BACKUP", "rediss://r2:6380")]);
    let config = config.unwrap();
    assert_eq!(config.redis.as_ref().unwrap().value.secret(), "redis://:hunter2@r1/0");
    assert_eq!(config.redis_backup.as_ref().unwrap().value.to_string(), "rediss://r2:6380");
    let told = format!("{:?} {:?}", config.describe(), config);
    assert!(told.contains("redis://r1/0") && !told.contains("hunter2"), "{told}");
    let alone = with(&[("CHIMERA_REDIS", "redis://:hunter2@r1/0")]).unwrap_err().to_string();
    assert!(alone.contains("CHIMERA_STORE") && !alone.contains("hunter2"), "{alone}");
    let backup = with(&[postgres, ("CHIMERA_REDIS_BACKUP", "redis://r2")]).unwrap_err().to_string();
    assert!(backup.contains("redis_backup ($CHIMERA_REDIS_BACKUP)") && backup.contains("CHIMERA_REDIS"), "{backup}");
    let scheme = with(&[postgres, ("CHIMERA_REDIS", "http://r1")]).unwrap_err().to_string();
    assert!(scheme.contains("redis://:password@host"), "{scheme}");
}

#[test]
fn embeddings_come_from_one_of_four_places() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    let with =
        |name| load(flags_in(folder.path()), &[("CHIMERA_EMBEDDINGS", name), ("CHIMERA_EMBEDDINGS_KEY", "hunter2")]);
    assert!(matches!(with("").unwrap().embeddings.value, Embeddings::Auto));
    assert!(matches!(with("minilm").unwrap().embeddings.value, Embeddings::MiniLm));
    let nowhere = with("endpoint").unwrap_err().to_string();
    assert!(nowhere.contains("[embeddings_endpoint]"), "{nowhere}");
    let none = with("word2vec").unwrap_err().to_string();
    assert!(none.contains("auto, lexical, minilm or endpoint"), "{none}");
    std::fs::write(&file, "[embeddings_endpoint]\nbase = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\ndimensions = 8\n")
        .unwrap();
    let config = with("endpoint").unwrap();
    assert!(
        matches!(&config.embeddings.value, Embeddings::Endpoint(options) if options.key.as_deref() == Some("hunter2"))
    );
    assert!(!format!("{config:?} {:?}", config.describe()).contains("hunter2"));
    let weaviate = load(flags_in(folder.path()), &[("CHIMERA_WEAVIATE", "http://:hunter2@w:8080")]).unwrap();
    assert_eq!(weaviate.weaviate.unwrap().value.to_string(), "http://w:8080/");
}
