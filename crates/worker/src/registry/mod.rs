//! What a worker serves at this moment, and what it knows besides.
//!
//! Requests read a snapshot, the catalog, without any lock. Whoever changes what is served
//! writes it into the book, under a lock that no request ever takes, and puts a new snapshot in
//! the old one's place in one step. A request that began with the old one finishes on it: it
//! holds the model that it found.

mod book;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use inferring_types::{
    IndexEntry, LoadStatus, ModelCatalog, ModelName, ModelSelector, ModelState, ModelVersion,
    ServiceError,
};
use parking_lot::Mutex;

use crate::cache::Tenant;
use crate::executor::Executor;
use crate::model::Model;
use book::Book;

/// What is served.
pub(crate) type Catalog = ModelCatalog<Arc<Model>>;

/// The models of a worker: those that are served, and what is known of the others.
#[derive(Default)]
pub(crate) struct Registry {
    catalog: ArcSwap<Catalog>,
    /// Whether the catalog is of everything that was there at the start.
    is_loaded: AtomicBool,
    book: Mutex<Book>,
}

impl Registry {
    /// What is served now. Hold it shortly: the models in it live as long.
    pub(crate) fn catalog(&self) -> Guard<Arc<Catalog>> {
        self.catalog.load()
    }

    /// The version of a model that is asked for.
    ///
    /// # Errors
    /// `NotFound` where it is not served, `Unavailable` as long as that cannot be told.
    pub(crate) fn find(&self, asked: ModelSelector<'_>) -> Result<Arc<Model>, ServiceError> {
        self.require_loaded()?;
        self.catalog().find(asked).cloned()
    }

    /// Whether everything is served that was there at the start.
    pub(crate) fn is_loaded(&self) -> bool {
        // What is read of the catalog afterwards is at least as new.
        self.is_loaded.load(Ordering::Acquire)
    }

    /// Refuses what has to wait for that.
    ///
    /// # Errors
    /// `Unavailable` until then.
    pub(crate) fn require_loaded(&self) -> Result<(), ServiceError> {
        const LOADING: &str = "the worker is still loading its models";
        if self.is_loaded() { Ok(()) } else { Err(ServiceError::unavailable(LOADING)) }
    }

    /// The versions of a model that are served.
    pub(crate) fn served(&self, name: &ModelName) -> Vec<Arc<Model>> {
        self.book.lock().served(name)
    }

    /// Every version of every model that is known.
    pub(crate) fn index(&self) -> Vec<IndexEntry> {
        let mut index = self.book.lock().index();
        if !self.is_loaded() {
            // What is entered by then is served when the others are.
            let entered = index.iter_mut().filter(|entry| entry.state == ModelState::Ready);
            entered.for_each(|entry| entry.state = ModelState::Loading);
        }
        index
    }

    /// How loading went, of every model that is known.
    pub(crate) fn loads(&self) -> Vec<LoadStatus> {
        self.book.lock().loads()
    }

    /// Whether a model is known, served or not.
    pub(crate) fn knows(&self, name: &ModelName) -> bool {
        self.book.lock().knows(name)
    }

    /// Notes that the repository has a model, or has it no longer. What is known only from
    /// requests is forgotten when it is unloaded.
    pub(crate) fn note_repository(&self, name: &ModelName, has: bool) {
        self.book.lock().note_repository(name, has);
    }

    /// Notes that these versions of a model are being loaded.
    pub(crate) fn note_loading(&self, name: &ModelName, versions: &[ModelVersion]) {
        self.book.lock().note_loading(name, versions);
    }

    /// Notes that a load has failed, of this version where that can be told, and why. What was
    /// served goes on being served.
    pub(crate) fn note_failure(
        &self,
        name: &ModelName,
        version: Option<&ModelVersion>,
        reason: &str,
    ) {
        self.book.lock().note_failure(name, version, reason);
    }

    /// Serves these versions of a model in place of those that were; none ends it. Returns whose
    /// answers nobody will be given any more.
    pub(crate) fn serve(&self, name: &ModelName, models: Vec<Arc<Model>>) -> Vec<Tenant> {
        let mut book = self.book.lock();
        let retired = book.replace(name, models);
        // Under the lock, so that the last snapshot is always that of the whole book.
        self.catalog.store(Arc::new(book.catalog()));
        drop(book);
        // What was replaced may be dropped here: that closes its queue and waits for nothing.
        retired.iter().map(|executor| executor.tenant).collect()
    }

    /// Enters versions without serving them yet: for a start, where many models are entered.
    pub(crate) fn enter(&self, name: &ModelName, models: Vec<Arc<Model>>) {
        self.book.lock().replace(name, models);
    }

    /// Serves everything that was entered, which is everything that was there at the start.
    pub(crate) fn serve_entered(&self) {
        let book = self.book.lock();
        self.catalog.store(Arc::new(book.catalog()));
        self.is_loaded.store(true, Ordering::Release);
    }

    /// Notes that all instances of an executor have ended.
    pub(crate) fn note_end(&self, name: &ModelName, version: &ModelVersion, tenant: Tenant) {
        self.book.lock().note_end(name, version, tenant);
    }

    /// Everything that may still run requests.
    pub(crate) fn executors(&self) -> Vec<Arc<Executor>> {
        self.book.lock().executors()
    }
}
