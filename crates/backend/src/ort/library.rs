//! Finds ONNX Runtime's shared library.
//!
//! The library is not linked: it comes from wherever the user already has one, so the search has
//! an order that the user can see and overrule. A library that was named (by flag or by
//! `ORT_DYLIB_PATH`) is the one or an error; silently taking another would answer with a version
//! that nobody chose. Places that are only searched may hold a library that is too old, as
//! distributions do: it is passed over, and mentioned if nothing better turns up.
//!
//! The search itself touches nothing but the file system under the [`Places`] it is given.

use std::cmp::Reverse;
use std::ffi::CStr;
use std::fmt;
use std::path::{Path, PathBuf};

use super::python;
use super::version::{Version, version_of_file};

/// A library, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Where it lies.
    pub path: PathBuf,
    /// Which step of the search found it.
    pub found_by: FoundBy,
}

/// The step of the search that found a library, in the order in which they are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundBy {
    /// It was named by flag or configuration.
    Named,
    /// `ORT_DYLIB_PATH` names it.
    Environment,
    /// It lies beside the executable, or in `../lib`.
    Executable,
    /// It belongs to the `onnxruntime` package of a Python environment.
    Python,
    /// It lies in the cache folder.
    Cache,
    /// It lies in one of the system's library folders.
    System,
}

impl fmt::Display for FoundBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Named => "named by flag or configuration",
            Self::Environment => "named by ORT_DYLIB_PATH",
            Self::Executable => "beside the executable",
            Self::Python => "in the Python package `onnxruntime`",
            Self::Cache => "in the cache folder",
            Self::System => "in a system library folder",
        })
    }
}

/// Why there is no library to load.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The library that was named does not exist.
    #[error(
        "there is no ONNX Runtime library at `{path}` ({found_by}): name the file \
         libonnxruntime.so or the folder that holds it, or name nothing to have it searched for"
    )]
    Missing {
        /// The path as it was named.
        path: PathBuf,
        /// Who named it.
        found_by: FoundBy,
    },
    /// No place holds a library that can be used.
    #[error(
        "ONNX Runtime is not installed: `pip install onnxruntime` gets it (or, in a clone of the \
         repository, `scripts/fetch-onnxruntime`). Looked in {}", looked_in.join(", ")
    )]
    NotFound {
        /// The places that were searched, in order, with what was wrong there.
        looked_in: Vec<String>,
    },
    /// The file is no library that this process can load.
    #[error("`{path}` ({found_by}) cannot be loaded: {reason}")]
    Unloadable {
        /// The file.
        path: PathBuf,
        /// How it was found.
        found_by: FoundBy,
        /// The loader's own words.
        reason: String,
    },
    /// The file is a library, but not ONNX Runtime.
    #[error("`{path}` ({found_by}) is not ONNX Runtime: it does not export `OrtGetApiBase`")]
    NotOnnxRuntime {
        /// The file.
        path: PathBuf,
        /// How it was found.
        found_by: FoundBy,
    },
    /// The library is older than what this program can speak to.
    #[error(
        "`{path}` ({found_by}) is ONNX Runtime {version}: version {} or later is needed; \
         `pip install --upgrade onnxruntime` gets it",
        Version::OLDEST
    )]
    TooOld {
        /// The file.
        path: PathBuf,
        /// How it was found.
        found_by: FoundBy,
        /// The version that it reports.
        version: String,
    },
}

/// Where a library may lie: what the search reads of its surroundings.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The path named by flag or configuration: the file, or the folder that holds it.
    pub named: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`: likewise.
    pub environment: Option<PathBuf>,
    /// The folder of the running executable.
    pub executable_folder: Option<PathBuf>,
    /// Roots of active Python environments: `VIRTUAL_ENV`, `CONDA_PREFIX`.
    pub python_prefixes: Vec<PathBuf>,
    /// The interpreter to ask where its `onnxruntime` package lies, if none of the above has it.
    pub python: Option<PathBuf>,
    /// The folder of downloaded libraries, one folder per version within.
    pub cache: Option<PathBuf>,
    /// The system's library folders.
    pub system: Vec<PathBuf>,
}

impl Places {
    /// The places of this process; `named` by flag or configuration, if it was.
    pub fn of_process(named: Option<PathBuf>) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from);
        let executable = std::env::current_exe().ok();
        let cache_home = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")));
        Self {
            named,
            environment: path("ORT_DYLIB_PATH"),
            executable_folder: executable.and_then(|file| Some(file.parent()?.to_owned())),
            python_prefixes: ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(path).collect(),
            python: variable("PATH").and_then(|path| python::on_path(&path)),
            cache: cache_home.map(|home| home.join("inferring").join("onnxruntime")),
            system: system_folders(),
        }
    }

    /// Finds the library to load. The first place that has one of a usable version wins; within
    /// a place, the highest version.
    ///
    /// # Errors
    /// [`LibraryError::Missing`] where a named library does not exist, and
    /// [`LibraryError::NotFound`] where none was named and no place has one.
    pub fn find(&self) -> Result<Library, LibraryError> {
        let named = self.named.as_ref().map(|path| (path, FoundBy::Named));
        let environment = self.environment.as_ref().map(|path| (path, FoundBy::Environment));
        if let Some((path, found_by)) = named.or(environment) {
            return find_named(path, found_by);
        }
        let mut search = Search::default();
        let found = self
            .beside_executable(&mut search)
            .or_else(|| self.in_python(&mut search))
            .or_else(|| self.in_cache(&mut search))
            .or_else(|| self.in_system(&mut search));
        found.ok_or(LibraryError::NotFound { looked_in: search.looked_in })
    }

    fn beside_executable(&self, search: &mut Search) -> Option<Library> {
        let folder = self.executable_folder.as_ref()?;
        let libraries = folder.parent().map(|parent| parent.join("lib"));
        search
            .folder(folder, FoundBy::Executable)
            .or_else(|| search.folder(&libraries?, FoundBy::Executable))
    }

    fn in_python(&self, search: &mut Search) -> Option<Library> {
        let active = self.python_prefixes.iter().flat_map(|prefix| python::packages_of(prefix));
        for packages in active {
            let folder = packages.join("onnxruntime/capi");
            if let Some(library) = search.folder(&folder, FoundBy::Python) {
                return Some(library);
            }
        }
        let interpreter = self.python.as_ref()?;
        match python::package_folder(interpreter, "onnxruntime") {
            Ok(Some(package)) => search.folder(&package.join("capi"), FoundBy::Python),
            Ok(None) => {
                let interpreter = interpreter.display();
                search.note(format!("the packages of `{interpreter}` (no onnxruntime)"));
                None
            }
            Err(problem) => {
                search.note(format!("the packages of `{}` ({problem})", interpreter.display()));
                None
            }
        }
    }

    fn in_cache(&self, search: &mut Search) -> Option<Library> {
        let cache = self.cache.as_ref()?;
        // Other names are no version: a download under way, whose library is not whole yet.
        let mut versions = folders_in(cache);
        versions.retain(|folder| folder.file_name().and_then(Version::in_name).is_some());
        versions.sort_by_key(|folder| Reverse(folder.file_name().and_then(Version::in_name)));
        let found = versions.iter().find_map(|folder| search.folder(folder, FoundBy::Cache));
        if versions.is_empty() {
            search.note(format!("`{}`", cache.display()));
        }
        found
    }

    fn in_system(&self, search: &mut Search) -> Option<Library> {
        self.system.iter().find_map(|folder| search.folder(folder, FoundBy::System))
    }
}

/// The version that a library reports of itself, such as `1.32.0`. This loads it.
///
/// # Errors
/// [`LibraryError`] where it cannot be loaded, is not ONNX Runtime, or is too old.
pub(super) fn version_of(library: &Library) -> Result<String, LibraryError> {
    let (path, found_by) = (&library.path, &library.found_by);
    let version = reported_version(path).map_err(|problem| match problem {
        Some(reason) => {
            LibraryError::Unloadable { path: path.clone(), found_by: found_by.clone(), reason }
        }
        None => LibraryError::NotOnnxRuntime { path: path.clone(), found_by: found_by.clone() },
    })?;
    match Version::reported(&version) {
        Some(parsed) if parsed < Version::OLDEST => {
            Err(LibraryError::TooOld { path: path.clone(), found_by: found_by.clone(), version })
        }
        _ => Ok(version),
    }
}

/// The version string, or the loader's reason, or `None` where the entry point is missing.
#[expect(unsafe_code, reason = "the only way to ask a shared library is to call into it")]
fn reported_version(path: &Path) -> Result<String, Option<String>> {
    type Entry = unsafe extern "system" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: loading runs the library's initializers, which is what the user asked for by
    // naming or installing it. The symbol, where it exists, has this signature in every release.
    // The base and its version string are static data of the library, and the library stays
    // loaded until the string was copied.
    unsafe {
        let library = libloading::Library::new(path).map_err(|e| Some(e.to_string()))?;
        let entry = library.get::<Entry>(b"OrtGetApiBase").map_err(|_| None)?;
        let base = entry().as_ref().ok_or(None)?;
        let version = (base.GetVersionString)();
        if version.is_null() {
            return Err(None);
        }
        Ok(CStr::from_ptr(version).to_string_lossy().into_owned())
    }
}

fn find_named(path: &Path, found_by: FoundBy) -> Result<Library, LibraryError> {
    let found = if path.is_dir() {
        libraries_in(path).into_iter().next().map(|(_, file)| file)
    } else {
        path.is_file().then(|| path.to_owned())
    };
    match found {
        // The loader would look a bare file name up in its own folders.
        Some(file) => Ok(Library { path: std::path::absolute(&file).unwrap_or(file), found_by }),
        None => Err(LibraryError::Missing { path: path.to_owned(), found_by }),
    }
}

/// A search under way: it remembers where it looked, for the message in case it fails.
#[derive(Debug, Default)]
struct Search {
    looked_in: Vec<String>,
}

impl Search {
    fn folder(&mut self, folder: &Path, found_by: FoundBy) -> Option<Library> {
        let libraries = libraries_in(folder);
        match libraries.first() {
            // A name without a version may be of any: loading will tell.
            Some((version, file)) if version.as_ref().is_none_or(|v| *v >= Version::OLDEST) => {
                return Some(Library { path: file.clone(), found_by });
            }
            Some((Some(version), file)) => self.note(format!(
                "`{}` (version {version}, too old: {} or later is needed)",
                file.display(),
                Version::OLDEST,
            )),
            _ => self.note(format!("`{}`", folder.display())),
        }
        None
    }

    fn note(&mut self, place: String) {
        self.looked_in.push(place);
    }
}

/// The files in `folder` that are named like the library, the highest version first; one
/// without a version in its name comes last.
fn libraries_in(folder: &Path) -> Vec<(Option<Version>, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = entries
        .flatten()
        .filter_map(|entry| Some((version_of_file(&entry.file_name())?, entry.path())))
        .filter(|(_, path)| path.is_file())
        .collect::<Vec<_>>();
    found.sort_by(|a, b| b.cmp(a));
    found
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Where the dynamic loader of this system usually looks.
fn system_folders() -> Vec<PathBuf> {
    let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let usual = ["/usr/local/lib", &multiarch, "/usr/lib64", "/usr/lib", "/opt/homebrew/lib"];
    usual.iter().map(PathBuf::from).filter(|folder| folder.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn touch(root: &TempDir, path: &str) -> PathBuf {
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        file
    }

    /// Every place under one folder, all of them empty.
    fn places(root: &TempDir) -> Places {
        let at = |path: &str| root.path().join(path);
        Places {
            executable_folder: Some(at("bin")),
            python_prefixes: vec![at("venv")],
            cache: Some(at("cache")),
            system: vec![at("usr/local/lib"), at("usr/lib")],
            ..Places::default()
        }
    }

    #[test]
    fn places_are_searched_in_order() {
        let root = TempDir::new().unwrap();
        let mut places = places(&root);
        let from_last_to_first = [
            ("usr/lib/libonnxruntime.so.1.30.0", FoundBy::System),
            ("usr/local/lib/libonnxruntime.so", FoundBy::System),
            ("cache/1.31.0/libonnxruntime.so.1.31.0", FoundBy::Cache),
            (
                "venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.32.0",
                FoundBy::Python,
            ),
            ("lib/libonnxruntime.so", FoundBy::Executable),
            ("bin/libonnxruntime.so", FoundBy::Executable),
        ];
        for (path, found_by) in from_last_to_first {
            let file = touch(&root, path);
            let found = places.find().unwrap();
            assert_eq!(found.path.canonicalize().unwrap(), file.canonicalize().unwrap());
            assert_eq!(found.found_by, found_by);
        }
        let elsewhere = touch(&root, "elsewhere/my-build.so");
        places.environment = Some(elsewhere.clone());
        let expected = Library { path: elsewhere.clone(), found_by: FoundBy::Environment };
        assert_eq!(places.find().unwrap(), expected);
        places.named = Some(root.path().join("bin"));
        assert_eq!(places.find().unwrap().found_by, FoundBy::Named);
    }

    #[test]
    fn the_highest_whole_version_wins_by_number_not_by_letter() {
        let root = TempDir::new().unwrap();
        for version in ["1.9.0", "1.32.0", "1.100.1", "1.24.0", "1.200.0.part", "1.200", "tmp"] {
            touch(&root, &format!("cache/{version}/libonnxruntime.so.1"));
        }
        fs::remove_file(root.path().join("cache/1.200/libonnxruntime.so.1")).unwrap();
        let found = places(&root).find().unwrap();
        assert!(found.path.ends_with("1.100.1/libonnxruntime.so.1"), "{found:?}");
    }

    #[test]
    fn a_library_too_old_is_passed_over_and_mentioned() {
        let root = TempDir::new().unwrap();
        touch(&root, "bin/libonnxruntime.so.1.14.1");
        let error = places(&root).find().unwrap_err().to_string();
        assert!(error.contains("libonnxruntime.so.1.14.1` (version 1.14.1, too old"), "{error}");
        touch(&root, "usr/lib/libonnxruntime.so.1");
        assert_eq!(places(&root).find().unwrap().found_by, FoundBy::System);
    }

    #[test]
    fn providers_and_other_files_are_not_the_library() {
        let root = TempDir::new().unwrap();
        for name in [
            "libonnxruntime_providers_shared.so",
            "libonnxruntime_providers_cuda.so",
            "libonnxruntime.so.txt",
            "libonnxruntime.a",
            "libonnxruntime.soup",
            "libonnxruntime.so.1.32.0.part",
            "onnxruntime.so",
        ] {
            touch(&root, &format!("bin/{name}"));
        }
        fs::create_dir(root.path().join("bin/libonnxruntime.so")).unwrap();
        assert!(places(&root).find().is_err());
        touch(&root, "bin/libonnxruntime.1.32.0.dylib");
        assert!(places(&root).find().is_ok());
    }

    #[test]
    fn what_was_named_is_never_replaced_by_something_found() {
        let root = TempDir::new().unwrap();
        touch(&root, "bin/libonnxruntime.so");
        fs::create_dir(root.path().join("empty")).unwrap();
        for named in ["absent.so", "empty"] {
            let named = root.path().join(named);
            let by_flag = Places { named: Some(named.clone()), ..places(&root) };
            let by_variable = Places { environment: Some(named.clone()), ..places(&root) };
            for (places, who) in [(by_flag, "flag"), (by_variable, "ORT_DYLIB_PATH")] {
                let error = places.find().unwrap_err().to_string();
                assert!(error.contains(&*named.to_string_lossy()), "{error}");
                assert!(error.contains(who), "{error}");
            }
        }
    }

    #[test]
    fn where_nothing_is_found_the_message_says_where_it_looked_and_what_to_run() {
        let root = TempDir::new().unwrap();
        fs::create_dir_all(root.path().join("venv/lib/python3.12/site-packages")).unwrap();
        let error = places(&root).find().unwrap_err().to_string();
        assert!(error.contains("`pip install onnxruntime`"), "{error}");
        for place in ["/bin`", "/lib`", "site-packages/onnxruntime/capi", "cache", "usr/lib"] {
            assert!(error.contains(place), "{place} is missing: {error}");
        }
        assert!(!error.contains('\n'));
    }

    #[test]
    fn what_is_no_library_is_refused_by_the_loader_in_its_own_words() {
        let root = TempDir::new().unwrap();
        let path = touch(&root, "libonnxruntime.so");
        let error = version_of(&Library { path, found_by: FoundBy::Named }).unwrap_err();
        assert!(matches!(error, LibraryError::Unloadable { .. }), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_library_is_not_taken_for_onnx_runtime() {
        let path = ["/lib64", "/lib", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu"]
            .iter()
            .map(|folder| Path::new(folder).join("libc.so.6"))
            .find(|path| path.is_file())
            .expect("a Linux system has a C library");
        let error = version_of(&Library { path, found_by: FoundBy::Environment }).unwrap_err();
        assert!(matches!(error, LibraryError::NotOnnxRuntime { .. }), "{error}");
    }
}
