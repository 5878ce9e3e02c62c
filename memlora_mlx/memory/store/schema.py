"""The database's tables, as numbered migrations: entry n takes a store from `user_version` n to n + 1.

A migration that has been released is never edited; a change to the tables is a new entry.
Datetimes are ISO 8601 text with microseconds; aware ones are UTC, naive ones (a conversation without a zone) stay naive.
"""

from __future__ import annotations

_FIRST = (
    # The embedding space, the store's own id, and the counter behind every `revision` column.
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # AUTOINCREMENT: an owner's id names its index file and must never mean somebody else later.
    """
    CREATE TABLE owners (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        user_id TEXT, agent_id TEXT, run_id TEXT,
        name TEXT,
        memories INTEGER NOT NULL DEFAULT 0  -- kept by the triggers below; the index is checked against it
    )
    """,
    # UNIQUE takes every NULL for a different value; an empty blob equals itself and no text.
    """
    CREATE UNIQUE INDEX owners_scope
        ON owners (ifnull(user_id, x''), ifnull(agent_id, x''), ifnull(run_id, x''))
    """,
    """
    CREATE TABLE images (
        id INTEGER PRIMARY KEY,
        source TEXT NOT NULL,
        caption TEXT,
        sha256 TEXT
    )
    """,
    "CREATE UNIQUE INDEX images_source ON images (source, ifnull(caption, x''))",
    """
    CREATE TABLE exchanges (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL UNIQUE,  -- its presence says that this exchange has been remembered
        owner INTEGER NOT NULL REFERENCES owners ON DELETE CASCADE,
        source TEXT NOT NULL,
        position INTEGER NOT NULL,
        said_at TEXT
    )
    """,
    "CREATE INDEX exchanges_owner ON exchanges (owner)",
    "CREATE INDEX exchanges_source ON exchanges (source)",
    """
    CREATE TABLE messages (
        exchange INTEGER NOT NULL REFERENCES exchanges ON DELETE CASCADE,
        position INTEGER NOT NULL,
        role TEXT NOT NULL,
        speaker TEXT,
        text TEXT NOT NULL,
        said_at TEXT,
        ref TEXT,
        image INTEGER REFERENCES images,
        PRIMARY KEY (exchange, position)
    ) WITHOUT ROWID
    """,
    # AUTOINCREMENT: the rowid is the vector index's key, and a key must never be given out twice.
    """
    CREATE TABLE memories (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        public_id TEXT NOT NULL UNIQUE,
        owner INTEGER NOT NULL REFERENCES owners ON DELETE CASCADE,
        text TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        said_at TEXT,
        revised_at TEXT,
        stored_at TEXT NOT NULL,
        changed_at TEXT,
        exchange INTEGER REFERENCES exchanges ON DELETE SET NULL,
        image INTEGER REFERENCES images,
        expires_at TEXT,
        metadata TEXT NOT NULL DEFAULT '{}',
        revision INTEGER NOT NULL
    )
    """,
    "CREATE INDEX memories_revision ON memories (owner, revision)",
    "CREATE INDEX memories_said_at ON memories (owner, said_at)",
    "CREATE INDEX memories_exchange ON memories (exchange)",
    # Beside the memories, not in them: a vector is ten times a memory's text, and filters scan the text.
    """
    CREATE TABLE embeddings (
        memory INTEGER PRIMARY KEY REFERENCES memories ON DELETE CASCADE,
        vector BLOB NOT NULL  -- float32, little-endian, unit length
    )
    """,
    """
    CREATE TRIGGER memory_added AFTER INSERT ON memories
    BEGIN UPDATE owners SET memories = memories + 1 WHERE id = NEW.owner; END
    """,
    """
    CREATE TRIGGER memory_removed AFTER DELETE ON memories
    BEGIN UPDATE owners SET memories = memories - 1 WHERE id = OLD.owner; END
    """,
    """
    CREATE TABLE history (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        memory_id TEXT NOT NULL,  -- the public id: history outlives its memory
        owner INTEGER NOT NULL REFERENCES owners ON DELETE CASCADE,
        event TEXT NOT NULL CHECK (event IN ('ADD', 'UPDATE', 'DELETE')),
        old_text TEXT,
        new_text TEXT,
        before TEXT,  -- the whole memory as it was, as JSON, without its embedding; NULL for an ADD
        exchange_key TEXT,
        at TEXT NOT NULL,
        actor TEXT NOT NULL,
        undone_by INTEGER REFERENCES history
    )
    """,
    "CREATE INDEX history_memory ON history (memory_id)",
    "CREATE INDEX history_owner ON history (owner)",
    # What an index that stands at an older revision has to forget.
    """
    CREATE TABLE tombstones (
        memory INTEGER PRIMARY KEY,
        owner INTEGER NOT NULL REFERENCES owners ON DELETE CASCADE,
        revision INTEGER NOT NULL
    )
    """,
    "CREATE INDEX tombstones_revision ON tombstones (owner, revision)",
    """
    CREATE TABLE sources (
        name TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        exchanges INTEGER NOT NULL,
        started_at TEXT NOT NULL,
        finished_at TEXT
    )
    """,
)

_PICTURES = (
    # The same path beside two conversations can be two pictures.
    "DROP INDEX images_source",
    "CREATE UNIQUE INDEX images_source ON images (source, ifnull(caption, x''), ifnull(sha256, x''))",
    "CREATE INDEX memories_image ON memories (image) WHERE image IS NOT NULL",
)

_MESSAGE_SEARCH = (
    # A message as a thing to find. AUTOINCREMENT: the rowid is the key in the vector index and of the words below.
    """
    CREATE TABLE indexed_messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        exchange INTEGER NOT NULL,
        position INTEGER NOT NULL,
        owner INTEGER NOT NULL REFERENCES owners ON DELETE CASCADE,
        previous INTEGER REFERENCES indexed_messages ON DELETE SET NULL,  -- the message before it in its session
        speaker TEXT,
        said_at TEXT,  -- the message's, else the exchange's
        revision INTEGER NOT NULL,
        is_embedded INTEGER NOT NULL DEFAULT 0,
        UNIQUE (exchange, position),
        FOREIGN KEY (exchange, position) REFERENCES messages ON DELETE CASCADE
    )
    """,
    "CREATE INDEX indexed_messages_revision ON indexed_messages (owner, revision)",
    "CREATE INDEX indexed_messages_said_at ON indexed_messages (owner, said_at)",
    "CREATE INDEX indexed_messages_speaker ON indexed_messages (owner, speaker)",
    "CREATE INDEX indexed_messages_previous ON indexed_messages (previous)",
    "CREATE INDEX indexed_messages_pending ON indexed_messages (id) WHERE NOT is_embedded",
    "CREATE INDEX exchanges_owner_source ON exchanges (owner, source)",
    # Of "Speaker: text"; searches add the previous message's vector to it.
    """
    CREATE TABLE message_vectors (
        message INTEGER PRIMARY KEY REFERENCES indexed_messages ON DELETE CASCADE,
        vector BLOB NOT NULL  -- float32, little-endian, unit length
    )
    """,
    """
    CREATE TABLE message_tombstones (
        message INTEGER PRIMARY KEY,
        owner INTEGER NOT NULL REFERENCES owners ON DELETE CASCADE,
        revision INTEGER NOT NULL
    )
    """,
    "CREATE INDEX message_tombstones_revision ON message_tombstones (owner, revision)",
    # Messages with a vector; kept by the triggers below, and the index is checked against it.
    "ALTER TABLE owners ADD COLUMN messages INTEGER NOT NULL DEFAULT 0",
    """
    CREATE TRIGGER message_embedded AFTER UPDATE OF is_embedded ON indexed_messages
    WHEN NEW.is_embedded <> OLD.is_embedded
    BEGIN UPDATE owners SET messages = messages + NEW.is_embedded - OLD.is_embedded WHERE id = NEW.owner; END
    """,
    """
    CREATE TRIGGER embedded_message_removed AFTER DELETE ON indexed_messages WHEN OLD.is_embedded
    BEGIN UPDATE owners SET messages = messages - 1 WHERE id = OLD.owner; END
    """,
    # The message that a memory's words came from.
    "ALTER TABLE memories ADD COLUMN message INTEGER REFERENCES indexed_messages ON DELETE SET NULL",
    "CREATE INDEX memories_message ON memories (message) WHERE message IS NOT NULL",
    # Memories that came from a message once and no longer do: deleted, or with words from elsewhere now.
    """
    CREATE TABLE ended_facts (
        message INTEGER NOT NULL REFERENCES indexed_messages ON DELETE CASCADE,
        memory_id TEXT NOT NULL,
        at TEXT NOT NULL,
        is_forgotten INTEGER NOT NULL,  -- somebody deleted it, so that its words must not be found either
        PRIMARY KEY (message, memory_id)
    ) WITHOUT ROWID
    """,
)

_PROVENANCE = (
    # Who said what a memory says. Of a memory that does not know its message, it is the class that is protected most.
    """
    ALTER TABLE memories ADD COLUMN provenance TEXT NOT NULL DEFAULT 'user'
        CHECK (provenance IN ('user', 'other', 'assistant', 'quoted'))
    """,
    """
    UPDATE memories SET provenance = 'assistant' WHERE message IN (
        SELECT i.id FROM indexed_messages i JOIN messages g ON g.exchange = i.exchange AND g.position = i.position
        WHERE g.role <> 'user' AND ifnull(lower(g.speaker), 'assistant') = 'assistant')
    """,
    # Whose memories a speaker of a conversation has. Two conversations can have two people of one name.
    """
    CREATE TABLE people (
        source TEXT NOT NULL,
        speaker TEXT NOT NULL,
        user_id TEXT NOT NULL,
        PRIMARY KEY (source, speaker)
    ) WITHOUT ROWID
    """,
)

_CHECKSUMS = (
    # Of every row of the other tables: see `checksums`. A row's key is its primary key, joined by '/' if it has parts.
    """
    CREATE TABLE checksums (
        tbl TEXT NOT NULL,
        key NOT NULL,
        sum INTEGER NOT NULL,
        PRIMARY KEY (tbl, key)
    ) WITHOUT ROWID
    """,
)

_ERASED = (
    # Exchanges whose words were erased: their source is not read into the store again. A key is a hash.
    "CREATE TABLE erased_exchanges (key TEXT PRIMARY KEY) WITHOUT ROWID",
)

_CONVERSATIONS = (
    # Conversations of the chat as the user held them. What is remembered of one is in exchanges and memories.
    """
    CREATE TABLE conversations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        public_id TEXT NOT NULL UNIQUE,
        owner INTEGER NOT NULL REFERENCES owners ON DELETE CASCADE,
        name TEXT NOT NULL,
        started_at TEXT NOT NULL,
        changed_at TEXT NOT NULL
    )
    """,
    "CREATE INDEX conversations_owner ON conversations (owner, changed_at)",
    # A question is stored before its reply begins, and its exchange when it is remembered: the key is no reference.
    # AUTOINCREMENT: the rowid is the key of the words in `turn_words`.
    """
    CREATE TABLE turns (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
        exchange_key TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
        text TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('complete', 'cut')),
        said_at TEXT NOT NULL,
        image_source TEXT,
        image_caption TEXT,
        is_remembered INTEGER NOT NULL DEFAULT 0,
        UNIQUE (exchange_key, role)
    )
    """,
    "CREATE INDEX turns_conversation ON turns (conversation)",
    "CREATE INDEX turns_waiting ON turns (conversation) WHERE NOT is_remembered AND role = 'user'",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _FIRST,
    _PICTURES,
    _MESSAGE_SEARCH,
    _PROVENANCE,
    _CHECKSUMS,
    _ERASED,
    _CONVERSATIONS,
)
WITH_CHECKSUMS = 5  # the first version whose rows have checksums
