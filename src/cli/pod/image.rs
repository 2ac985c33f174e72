//! `podctl image`: load, list and remove images.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use indicatif::{ProgressBar, ProgressStyle};

use crate::image::{Event, Image, Loaded, Reference, Store};

/// What `podctl image` does.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ImageCommand {
    /// Load images from archives: OCI image layouts and `docker save` files
    Load(Load),
    /// List the images in the store
    #[command(visible_alias = "ls")]
    List(List),
    /// Remove images from the store
    #[command(visible_alias = "remove")]
    Rm(Remove),
}

/// `podctl image load`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Load {
    /// Archives: a directory or a tar, plain or compressed with gzip or zstd; `-` is the standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The image's name, in place of the one in the archive
    #[arg(long, value_name = "NAME")]
    pub name: Option<Reference>,
}

/// `podctl image list`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct List {
    /// Print only the ids, in full
    #[arg(short, long)]
    pub quiet: bool,
}

/// `podctl image rm`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Remove {
    /// Names, or ids in full (sha256:...)
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Runs a command on a store and prints what it did.
///
/// # Errors
/// The store's, and those of the standard output. With several files or names it stops at the
/// first that fails; what was done before stays done and was printed.
pub fn run(command: &ImageCommand, store: &Store) -> Result<()> {
    let mut out = io::stdout().lock();
    match command {
        ImageCommand::Load(load) => run_load(load, store, &mut out),
        ImageCommand::List(list) => print_list(list, &store.list()?, SystemTime::now(), &mut out),
        ImageCommand::Rm(remove) => run_remove(remove, store, &mut out),
    }
}

fn run_load(load: &Load, store: &Store, out: &mut impl Write) -> Result<()> {
    ensure!(
        load.name.is_none() || load.files.len() == 1,
        "--name names one image, and there are {} files",
        load.files.len()
    );
    for file in &load.files {
        let path = match file.to_str() {
            Some("-") => Path::new("/dev/stdin"),
            _ => file,
        };
        let bar = io::stderr().is_terminal().then(progress_bar);
        let loaded = store.load(path, load.name.as_ref(), &mut |event| {
            show(bar.as_ref(), event);
        });
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        for image in loaded? {
            writeln!(out, "{}", loaded_line(&image))?;
        }
    }
    Ok(())
}

fn loaded_line(image: &Loaded) -> String {
    let Loaded {
        name,
        id,
        layers,
        bytes,
        changed,
    } = image;
    let what = format!(
        "(sha256:{}, {layers} {}, {})",
        id.short(),
        if *layers == 1 { "layer" } else { "layers" },
        size(*bytes)
    );
    match changed {
        true => format!("loaded {name} {what}"),
        false => format!("unchanged {name} {what}"),
    }
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn show(bar: Option<&ProgressBar>, event: &Event<'_>) {
    if let Event::Warning(text) = event {
        match bar {
            Some(bar) => bar.suspend(|| warn(text)),
            None => warn(text),
        }
    }
    let Some(bar) = bar else {
        return;
    };
    match event {
        Event::Expanding { bytes } => {
            bar.set_message("decompressing");
            bar.set_length(*bytes);
            bar.set_position(*bytes);
        }
        Event::Unpacking {
            number,
            count,
            bytes,
            total,
            ..
        } => {
            bar.set_message(format!("layer {number}/{count}"));
            bar.set_length(*total);
            bar.set_position(*bytes);
        }
        Event::Layer { .. } | Event::Committing | Event::Warning(_) => {}
    }
}

fn warn(text: &str) {
    // There is nowhere to say that the standard error does not take it.
    let _ = writeln!(io::stderr(), "warning: {text}");
}

fn print_list(list: &List, images: &[Image], now: SystemTime, out: &mut impl Write) -> Result<()> {
    if list.quiet {
        let mut ids: Vec<_> = images.iter().map(|image| &image.id).collect();
        ids.sort();
        ids.dedup();
        for id in ids {
            writeln!(out, "{id}")?;
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["NAME", "IMAGE ID", "SIZE", "CREATED"]);
    for image in images {
        table.add_row([
            image.name.clone(),
            image.id.short().to_owned(),
            size(image.bytes),
            image
                .created
                .map_or_else(|| "<unknown>".to_owned(), |created| ago(created, now)),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    writeln!(out, "{}", table.trim_fmt())?;
    Ok(())
}

fn run_remove(remove: &Remove, store: &Store, out: &mut impl Write) -> Result<()> {
    for name in &remove.names {
        let removed = store.remove(name)?;
        write!(out, "removed {}", removed.name)?;
        match removed.layers_in_use {
            0 => writeln!(out)?,
            1 => writeln!(out, " (1 layer is in use and stays for now)")?,
            count => writeln!(out, " ({count} layers are in use and stay for now)")?,
        }
    }
    Ok(())
}

/// `4.2 MB`: powers of ten, as docker shows sizes.
fn size(bytes: u64) -> String {
    let units = [(1_000_000_000u64, "GB"), (1_000_000, "MB"), (1000, "kB")];
    // The limits are where the next smaller unit would round up to 1000.0.
    match units.iter().find(|(unit, _)| bytes >= unit - unit / 20_000) {
        Some((unit, name)) => {
            let unit = u128::from(*unit);
            let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// `3 weeks ago`, in the largest unit of which there are two or more.
fn ago(then: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(then).unwrap_or(Duration::ZERO).as_secs();
    let units = [
        (365 * 86400, "years"),
        (30 * 86400, "months"),
        (7 * 86400, "weeks"),
        (86400, "days"),
        (3600, "hours"),
        (60, "minutes"),
    ];
    let unit = units.iter().find(|(length, _)| seconds / length >= 2);
    match unit {
        Some((length, unit)) => format!("{} {unit} ago", seconds / length),
        None => format!("{seconds} seconds ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Digest, ImageConfig};
    use clap::Parser;

    #[derive(Parser)]
    struct Podctl {
        #[command(subcommand)]
        command: ImageCommand,
    }

    fn parse(arguments: &str) -> Result<ImageCommand, clap::Error> {
        let arguments = ["podctl"].into_iter().chain(arguments.split(' '));
        Podctl::try_parse_from(arguments).map(|podctl| podctl.command)
    }

    fn image(name: &str, bytes: u64, created: Option<u64>) -> Image {
        Image {
            name: name.to_owned(),
            id: Digest::of(name.as_bytes()),
            manifest: None,
            config: ImageConfig::default(),
            layers: Vec::new(),
            layer_ids: Vec::new(),
            created: created.map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at)),
            loaded: None,
            bytes,
        }
    }

    fn listed(quiet: bool, images: &[Image]) -> String {
        let mut out = Vec::new();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10 * 86400);
        print_list(&List { quiet }, images, now, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn arguments_are_parsed_and_names_normalised() {
        let ImageCommand::Load(load) = parse("load a.tar --name busybox").unwrap() else {
            panic!("not load");
        };
        assert_eq!(
            load.name.unwrap().to_string(),
            "docker.io/library/busybox:latest"
        );
        assert!(parse("load").is_err() && parse("rm").is_err());
        assert!(parse("load a.tar --name UPPER").is_err());
        assert!(matches!(parse("ls -q").unwrap(), ImageCommand::List(list) if list.quiet));
    }

    #[test]
    fn list_is_lined_up() {
        let images = [
            image("docker.io/library/a:1", 4_200_000, Some(0)),
            image("b.example/long/name:2", 12, None),
        ];
        assert_eq!(
            listed(false, &images),
            "NAME                   IMAGE ID      SIZE    CREATED\n\
             docker.io/library/a:1  0f9e6f0bb1c5  4.2 MB  10 days ago\n\
             b.example/long/name:2  1ad9d7b4d8a2  12 B    <unknown>\n"
                .replace("0f9e6f0bb1c5", images[0].id.short())
                .replace("1ad9d7b4d8a2", images[1].id.short())
        );
        assert_eq!(listed(false, &[]), "NAME  IMAGE ID  SIZE  CREATED\n");
    }

    #[test]
    fn quiet_list_has_each_id_once() {
        let images = [image("a", 1, None), image("a", 1, None)];
        assert_eq!(listed(true, &images), format!("{}\n", images[0].id));
    }

    #[test]
    fn ages_are_in_the_largest_unit_with_two() {
        let at = |seconds| {
            ago(
                SystemTime::UNIX_EPOCH,
                SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            )
        };
        assert_eq!(at(5), "5 seconds ago");
        assert_eq!(at(119), "119 seconds ago");
        assert_eq!(at(3600), "60 minutes ago");
        assert_eq!(at(20 * 86400), "2 weeks ago");
        assert_eq!(at(900 * 86400), "2 years ago");
    }

    #[test]
    fn sizes_are_rounded_to_a_tenth() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (4_249_999, "4.2 MB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (u64::MAX, "18446744073.7 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn loaded_line_says_what_was_loaded() {
        let mut image = Loaded {
            name: "docker.io/library/a:1".into(),
            id: Digest::of(b""),
            layers: 1,
            bytes: 4_200_000,
            changed: true,
        };
        assert_eq!(
            loaded_line(&image),
            "loaded docker.io/library/a:1 (sha256:e3b0c44298fc, 1 layer, 4.2 MB)"
        );
        image.changed = false;
        assert!(loaded_line(&image).starts_with("unchanged "));
    }
}
