//! Files of every kind and version, full disks, several processes, broken rows.

use std::fmt::Write as _;
use std::path::Path;

use expect_test::{Expect, expect};
use rusqlite::Connection;
use toehold_verifier::Outcome;

use super::{dump, furnished, limit_pages, plain, problem, record, shown, some_traces};
use crate::store::*;

#[test]
fn a_full_disk_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    let records: Vec<TraceRecord> = (0..400).map(|index| record(&plain("p"), "aa", 3, index, Outcome::Wrong)).collect();
    let mut whole = furnished(&folder.path().join("whole.db"));
    whole.append(&records).unwrap();

    let mut store = furnished(&path);
    limit_pages(&store, 3);
    let mut written = 0;
    let error = loop {
        match store.append(&records[written..written + 20]) {
            Ok(new) => written += new as usize,
            Err(error) => break error,
        }
    };
    expect![[r#"
        the disk is full: 20 traces were not written to STORE, which keeps all it had
        hint: free some space and run it again; it continues where the store ends"#]]
    .assert_eq(&shown(error, &path));
    assert!((20..380).contains(&written), "{written} were written before the disk was full");
    assert_eq!(store.traces(&TraceFilter::default()).unwrap().len(), written);
    drop(store);

    // The next process has room again and starts from the beginning.
    let mut store = Store::open(&path).unwrap();
    assert_eq!(store.append(&records).unwrap(), 400 - written as u64);
    assert_eq!(dump(&store), dump(&whole));
}

/// Opens a file that `make` made; a refused file stays as it is.
#[track_caller]
fn check_open(make: impl FnOnce(&Path), expected: Expect) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    make(&path);
    let before = std::fs::read(&path).ok();
    let mut text = String::new();
    for name in ["read", "write"] {
        let opened = if name == "read" { Store::open_read_only(&path) } else { Store::open(&path) };
        match opened {
            Ok(store) => {
                writeln!(text, "{name}: {} traces", store.traces(&TraceFilter::default()).unwrap().len()).unwrap()
            }
            Err(error) => {
                writeln!(text, "{name}: {}", shown(error, &path)).unwrap();
                assert!(std::fs::read(&path).ok() == before, "a refused file was changed");
            }
        }
    }
    expected.assert_eq(&text);
}

fn run_sql(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn files_of_every_kind() {
    check_open(
        |_| {},
        expect![[r#"
            read: STORE does not exist
            write: 0 traces
        "#]],
    );
    check_open(
        |path| std::fs::write(path, "").unwrap(),
        expect![[r#"
        read: STORE is not a trace store: it is empty
        write: 0 traces
    "#]],
    );
    check_open(
        |path| {
            furnished(path).append(&some_traces()).unwrap();
        },
        expect![[r#"
            read: 6 traces
            write: 6 traces
        "#]],
    );
    check_open(
        |path| {
            furnished(path);
            run_sql(path, &format!("PRAGMA user_version = {}", schema::VERSION + 1));
        },
        expect![[r#"
            read: STORE is a trace store of version 3, but this build reads versions up to 2
            hint: use a newer toehold
            write: STORE is a trace store of version 3, but this build reads versions up to 2
            hint: use a newer toehold
        "#]],
    );
    check_open(
        |path| {
            furnished(path);
            run_sql(path, "PRAGMA user_version = 0");
        },
        expect![[r#"
            read: STORE is not a trace store: it has version 0, expected at least 1
            write: STORE is not a trace store: it has version 0, expected at least 1
        "#]],
    );
    check_open(
        |path| std::fs::write(path, "problem,answer\n".repeat(99)).unwrap(),
        expect![[r#"
        read: STORE is not a trace store: it is no SQLite file
        write: STORE is not a trace store: it is no SQLite file
    "#]],
    );
    check_open(
        |path| run_sql(path, "CREATE TABLE traces (row INTEGER)"),
        expect![[r#"
        read: STORE is not a trace store: it is a SQLite file with application id 0, expected 1953457512
        write: STORE is not a trace store: it is a SQLite file with application id 0, expected 1953457512
    "#]],
    );
    check_open(
        |path| run_sql(path, "PRAGMA application_id = 7; PRAGMA user_version = 1"),
        expect![[r#"
        read: STORE is not a trace store: it is a SQLite file with application id 7, expected 1953457512
        write: STORE is not a trace store: it is a SQLite file with application id 7, expected 1953457512
    "#]],
    );
    check_open(
        |path| std::fs::create_dir(path).unwrap(),
        expect![[r#"
            read: STORE cannot be opened: unable to open database file: STORE
            write: STORE cannot be opened: unable to open database file: STORE
        "#]],
    );
}

#[test]
fn a_missing_folder() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::open(folder.path().join("runs/traces.db")).unwrap_err();
    expect!["STORE/runs/traces.db cannot be opened: there is no folder STORE/runs"]
        .assert_eq(&shown(error, folder.path()));
}

/// A store as the first version's own statements make it opens in every later version.
#[test]
fn a_store_of_version_1_opens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    run_sql(&path, schema::STEPS[0]);
    run_sql(&path, "PRAGMA application_id = 0x746f6568; PRAGMA user_version = 1");
    run_sql(&path, "INSERT INTO problems (id, problem, answer, verifier) VALUES ('v', '1 + 1?', '2', 'number')");
    let store = furnished(&path);
    // What it had is what it would be had it been written today.
    assert_eq!(store.problems().unwrap().iter().find(|one| one.id.as_str() == "v"), Some(&problem("v")));
    drop(store);
    let header = Connection::open(&path).unwrap();
    let read = |pragma: &str| header.query_row(pragma, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((read("PRAGMA user_version"), read("PRAGMA application_id")), (schema::VERSION, 1_953_457_512));
    assert_eq!(header.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0)).unwrap(), "wal");

    // A released step is never edited: it would leave older stores different from newer ones.
    expect!["a10495bc72d4e0c5"].assert_eq(&blake3::hash(schema::STEPS[1].as_bytes()).to_hex()[..16]);
    expect!["baf6a83bc23753bb"].assert_eq(&blake3::hash(schema::STEPS[0].as_bytes()).to_hex()[..16]);
}

#[test]
fn reading_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    let mut writer = furnished(&path);
    let mut reader = Store::open_read_only(&path).unwrap();
    writer.append(&some_traces()).unwrap();
    assert_eq!(reader.traces(&TraceFilter::default()).unwrap().len(), 6, "a reader sees what was written meanwhile");
    let error = reader.append(&[record(&plain("p"), "aa", 3, 99, Outcome::Wrong)]).unwrap_err();
    expect!["STORE cannot be written: attempt to write a readonly database"].assert_eq(&shown(error, &path));
    drop((writer, reader));

    drop(Store::open_read_only(&path).unwrap());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["traces.db"]);
}

#[test]
fn two_writers_of_one_campaign() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    let mut first = furnished(&path);
    let mut second = Store::open(&path).unwrap();
    assert_eq!(first.append(&some_traces()[..4]).unwrap(), 4);
    assert_eq!(second.append(&some_traces()).unwrap(), 2);
    assert_eq!(first.append(&some_traces()).unwrap(), 0);
    assert_eq!(dump(&first), dump(&second));
}

#[track_caller]
fn check_corrupt(sql: &str, expected: Expect) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    let mut store = furnished(&path);
    store.append(&some_traces()).unwrap();
    run_sql(&path, &format!("PRAGMA ignore_check_constraints = ON; {sql}"));
    expected.assert_eq(&shown(store.traces(&TraceFilter::default()).unwrap_err(), &path));
}

#[test]
fn rows_that_no_version_wrote() {
    check_corrupt(
        "UPDATE traces SET tokens = x'0102' WHERE row = 2",
        expect!["STORE, table traces, row 2: 2 bytes are no whole number of tokens"],
    );
    check_corrupt(
        "UPDATE traces SET outcome = 'perhaps' WHERE row = 3",
        expect![[r#"STORE, table traces, row 3: unknown word "perhaps""#]],
    );
    check_corrupt(
        "UPDATE traces SET number = -1 WHERE row = 4",
        expect!["STORE, table traces, row 4: Integer -1 out of range at index 4"],
    );
}

/// What a store of each version has, as SQL.
fn tables(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name").unwrap();
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|row| row.unwrap() + "\n").collect()
}

/// A store of the first version, with the traces that every version can have.
fn first_version(path: &Path) {
    let step = schema::STEPS[0];
    run_sql(path, &format!("PRAGMA journal_mode = WAL; PRAGMA application_id = {};", schema::APPLICATION_ID));
    run_sql(path, &format!("{step} PRAGMA user_version = 1"));
    let mut store = furnished(&path.with_extension("new"));
    store.append(&some_traces()).unwrap();
    drop(store);
    let tables = ["problems", "starts", "policies", "sampling", "traces"];
    let columns = |table| if table == "problems" { "row, id, problem, answer, verifier, solution" } else { "*" };
    let copies =
        tables.map(|table| format!("INSERT INTO {table} SELECT {} FROM new.{table};", columns(table))).concat();
    run_sql(path, &format!("ATTACH '{}' AS new; {copies}", path.with_extension("new").display()));
}

#[test]
fn a_store_of_the_first_version_is_read_and_upgraded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traces.db");
    first_version(&path);
    let new = Store::open(path.with_extension("new")).unwrap();
    let expected = dump(&new);
    // To look at it nothing is changed.
    let reader = Store::open_read_only(&path).unwrap();
    assert_eq!(reader.problems().unwrap(), new.problems().unwrap());
    assert_eq!(reader.traces(&TraceFilter::default()).unwrap(), new.traces(&TraceFilter::default()).unwrap());
    drop(new);
    let infra = record(&plain("p"), "aa", 3, 98, Outcome::Infra);

    let mut store = Store::open(&path).unwrap();
    assert_eq!(dump(&store), expected);
    assert_eq!(store.append(std::slice::from_ref(&infra)).unwrap(), 1, "a new outcome in the old table");
    assert_eq!(reader.traces(&TraceFilter { outcome: Some(Outcome::Infra), ..Default::default() }).unwrap().len(), 1);
    let success = store.success(&TraceFilter::default()).unwrap();
    assert_eq!(success.attempts, some_traces().len() as u64, "what was not judged is no attempt");
    drop((store, reader));

    assert_eq!(tables(&path), tables(&path.with_extension("new")), "upgraded and new stores have the same tables");
    let check = |sql: &str| Connection::open(&path).unwrap().query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(check("PRAGMA integrity_check"), "ok");
    let refused = Connection::open(&path).unwrap().execute("UPDATE traces SET outcome = 'fine'", []).unwrap_err();
    assert!(refused.to_string().contains("CHECK constraint failed"), "{refused}");
}
