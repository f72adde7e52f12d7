BEGIN TRANSACTION;
CREATE TABLE clients (id TEXT PRIMARY KEY, tombstones TEXT, departed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
INSERT INTO "clients" VALUES('charite',NULL,1);
INSERT INTO "clients" VALUES('st-vincent','tombstones',0);
CREATE TABLE events (
        sequence INTEGER PRIMARY KEY, time REAL NOT NULL, request_id TEXT, name TEXT NOT NULL,
        attempt INTEGER NOT NULL, facts TEXT NOT NULL, previous TEXT NOT NULL, digest TEXT NOT NULL
    );
INSERT INTO "events" VALUES(1,1700000000.75,NULL,'model-accepted',0,'{"after":"initial","digest":"model-0"}','0000000000000000000000000000000000000000000000000000000000000000','00dedd465a101ecb76c6c1fcd50c51327fd99e616af01b0cbeccf2bd9ed9dcfb');
INSERT INTO "events" VALUES(2,1700000001.25,'r1','received',0,'{"request":"aa908316a3f3d6b1"}','00dedd465a101ecb76c6c1fcd50c51327fd99e616af01b0cbeccf2bd9ed9dcfb','1f794b871cabbe6cb32c5c7b0cf2b0c6f9afb61e8bb6d0b166dc0c3755afd99f');
INSERT INTO "events" VALUES(3,1700000001.75,'r2','received',0,'{"request":"ca53ea10e99272d5"}','1f794b871cabbe6cb32c5c7b0cf2b0c6f9afb61e8bb6d0b166dc0c3755afd99f','64b082f5accc5c0c10b6ada53eb0c65a5de0c0ea26604b3ed51ad415e941a743');
INSERT INTO "events" VALUES(4,1700000002.0,'r1','unlearning',1,'{"method":"delete"}','64b082f5accc5c0c10b6ada53eb0c65a5de0c0ea26604b3ed51ad415e941a743','d0a1ecb69173d3088f6a64c6460ab80761a22aa46e5ac055203bb93cafc76c25');
INSERT INTO "events" VALUES(5,1700000002.25,'r1','auditing',1,'{}','d0a1ecb69173d3088f6a64c6460ab80761a22aa46e5ac055203bb93cafc76c25','833d01dbe20770b8973bb75b255b2e404091168424e68c7a660f500090121073');
INSERT INTO "events" VALUES(6,1700000002.5,'r1','committing',1,'{"digest":"model-1"}','833d01dbe20770b8973bb75b255b2e404091168424e68c7a660f500090121073','4219c5c95010de826a385513ee0b016137d10b32f1292148eb8dda6714d0121e');
INSERT INTO "events" VALUES(7,1700000002.75,NULL,'tombstones-confirmed',0,'{"client":"8208b52093335165","digest":"tombstones"}','4219c5c95010de826a385513ee0b016137d10b32f1292148eb8dda6714d0121e','d4402ef1d20e58d787234914ea1ca663cb700eecf4794bd0d8d52484e625041a');
INSERT INTO "events" VALUES(8,1700000003.0,'r1','owed',0,'{"client":"bdb96cd685a31292"}','d4402ef1d20e58d787234914ea1ca663cb700eecf4794bd0d8d52484e625041a','041e4d8bf9c4e77ce9cfdc0cd1d1cb1ae6fe9524eb1f922b3472ca6c9da4f8f6');
INSERT INTO "events" VALUES(9,1700000003.25,'r1','committed',1,'{"outcome":"0ee1deec2d69fbf2"}','041e4d8bf9c4e77ce9cfdc0cd1d1cb1ae6fe9524eb1f922b3472ca6c9da4f8f6','0e01abdffcaad1c2d909fb6d126eb4f00ca7e7fdf151575ee385d079d8176375');
INSERT INTO "events" VALUES(10,1700000003.75,NULL,'model-accepted',0,'{"after":"r1","digest":"model-1"}','0e01abdffcaad1c2d909fb6d126eb4f00ca7e7fdf151575ee385d079d8176375','9b37a260d5e5e4e21d8f9383b53da6f69bef67da9c6d4ee9e93180b8b05512ff');
INSERT INTO "events" VALUES(11,1700000004.0,NULL,'client-departed',0,'{"client":"bdb96cd685a31292"}','9b37a260d5e5e4e21d8f9383b53da6f69bef67da9c6d4ee9e93180b8b05512ff','e8d56b515566ef32d04549f4fc99a66118f6d45fb58aff033ebb61f77ce8a82a');
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('head','11 e8d56b515566ef32d04549f4fc99a66118f6d45fb58aff033ebb61f77ce8a82a');
INSERT INTO "meta" VALUES('secret','5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e');
CREATE TABLE models (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, digest TEXT NOT NULL,
        accepted_after TEXT NOT NULL
    );
INSERT INTO "models" VALUES(1,1700000000.5,'model-0','initial');
INSERT INTO "models" VALUES(2,1700000003.5,'model-1','r1');
CREATE TABLE owed (request_id TEXT, client TEXT, PRIMARY KEY (request_id, client)) WITHOUT ROWID;
INSERT INTO "owed" VALUES('r1','charite');
CREATE TABLE requests (
        sequence INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, body TEXT NOT NULL, received REAL NOT NULL,
        status TEXT NOT NULL, attempt INTEGER NOT NULL, reason TEXT,
        priority INTEGER NOT NULL, deadline REAL, approved INTEGER NOT NULL DEFAULT 0,
        ever_committed INTEGER NOT NULL DEFAULT 0, release_due INTEGER NOT NULL DEFAULT 0, method TEXT, outcome TEXT
    );
INSERT INTO "requests" VALUES(1,'r1','{"deadline": null, "id": "r1", "method": null, "parameters": {}, "priority": 2, "scope": "class", "target": {"classes": [3]}}',1700000001.0,'committed',1,NULL,2,NULL,0,1,0,'delete','{"forget_accuracy": 0.01}');
INSERT INTO "requests" VALUES(2,'r2','{"deadline": null, "id": "r2", "method": null, "parameters": {}, "priority": 0, "scope": "sample", "target": {"client": "st-vincent", "sample_ids": ["scan-17"]}}',1700000001.5,'received',0,NULL,0,NULL,0,0,0,NULL,NULL);
CREATE TABLE state (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "state" VALUES('initial','"model-0"');
CREATE INDEX events_of_requests ON events (request_id) WHERE request_id IS NOT NULL;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never removed'); END;
CREATE INDEX pending_requests ON requests (priority DESC, deadline IS NULL, deadline, sequence) WHERE status NOT IN ('committed', 'failed', 'rejected', 'withdrawn');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('models',2);
COMMIT;

PRAGMA user_version=2;
PRAGMA journal_mode=WAL;
