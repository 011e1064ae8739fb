"""The peer of read-workload and submit: the same authenticated queries and inserts as tesd's, on the same tables, as one
would write them with FastAPI and asyncpg.  Statements are prepared and cached by asyncpg; the pool is open from the start."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from contextlib import asynccontextmanager
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict, Field


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=8, max_size=8) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


def new_id(kind: str) -> str:
    return f"{kind}_{time.time_ns() // 1_000_000:x}{secrets.token_hex(8)}"[:29]


async def caller(authorization: Annotated[str, Header()] = "") -> str:
    """The organisation that the key belongs to."""
    ident, _, secret = authorization.removeprefix("Bearer tes_").partition("_")
    row = await app.state.pool.fetchrow(
        "SELECT org_id, user_id, hash, role, scopes, expires_ms, revoked_ms FROM api_keys WHERE id = $1", f"ak_{ident}"
    )
    if not row or not hmac.compare_digest(hashlib.sha256(secret.encode()).hexdigest(), row["hash"]):
        raise HTTPException(401, "this API key is not known")
    if row["revoked_ms"] or (row["expires_ms"] and row["expires_ms"] <= time.time() * 1000):
        raise HTTPException(401, "this API key was revoked or has expired")
    return row["org_id"]


@app.get("/v1/workloads/{ident}")
async def workload_show(ident: str, org: Annotated[str, Depends(caller)]) -> dict:
    async with app.state.pool.acquire() as conn:
        row = await conn.fetchrow("SELECT * FROM workloads WHERE id = $1 AND org_id = $2 AND removed_ms = 0", ident, org)
        if not row:
            raise HTTPException(404, "there is no such workload")
        value = dict(row)
        value["spec"] = json.loads(value["spec"])
        if not value["ended_ms"]:
            value["charged_uusd"] += await conn.fetchval(
                "SELECT COALESCE(SUM(billed_uusd), 0)::bigint FROM leases WHERE workload_id = $1 AND state <> 'ended'", ident
            )
        return value


class Resources(BaseModel):
    model_config = ConfigDict(extra="forbid")
    cpu_milli: int = Field(1000, ge=1, le=1024000)
    memory_mib: int = Field(1024, ge=1)
    disk_mib: int = Field(1024, ge=0)
    gpus: int = Field(0, ge=0, le=64)
    gpu_model: str | None = None
    vram_mib: int = Field(0, ge=0)


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid")
    image: str = Field(min_length=1, max_length=255)
    name: str | None = Field(None, pattern="^[a-z0-9-]{1,63}$")
    command: list[str] = []
    env: dict[str, str] = {}
    resources: Resources = Resources()
    max_price_uusd_h: int = Field(ge=1)
    max_duration_s: int = Field(0, ge=0)
    retries: int = Field(3, ge=0, le=100)


async def hold(conn: asyncpg.Connection, org: str, replica: str, amount: int, now: int) -> str:
    """Sets the money for the first minutes aside, in two accounts and one transfer."""
    customer, before, number = await conn.fetchrow(
        "SELECT id, last_transfer, transfers FROM accounts WHERE org_id = $1 AND name = 'customer' AND currency = 'USD' FOR UPDATE",
        org,
    )
    escrow, ident = new_id("ac"), new_id("tr")
    await conn.execute(
        "INSERT INTO accounts (id, org_id, name, currency, debits_must_not_exceed_credits, created_ms)"
        " VALUES ($1, NULL, $2, 'USD', 1, $3)", escrow, f"escrow:{replica}", now,
    )  # fmt: skip
    changed = await conn.execute(
        "UPDATE accounts SET debits_pending = debits_pending + $2, transfers = transfers + 1, last_transfer = $3 WHERE id = $1"
        " AND debits_pending + debits_posted + $2 <= credits_posted", customer, amount, ident,
    )  # fmt: skip
    if changed != "UPDATE 1":
        raise HTTPException(402, "not enough money")
    await conn.execute(
        "UPDATE accounts SET credits_pending = credits_pending + $2, transfers = 1, last_transfer = $3 WHERE id = $1",
        escrow, amount, ident,
    )  # fmt: skip
    await conn.execute(
        "INSERT INTO transfers (id, debit_account, credit_account, code, subject, kind, amount, created_ms,"
        " debit_number, credit_number, debit_prev) VALUES ($1, $2, $3, 'hold', $4, 'pending', $5, $6, $7, 1, $8)",
        ident, customer, escrow, replica, amount, now, number + 1, before,
    )  # fmt: skip
    return ident


@app.post("/v1/workloads", status_code=201)
async def workload_create(spec: Spec, org: Annotated[str, Depends(caller)]) -> dict:
    ident, replica, now = new_id("wl"), new_id("rp"), time.time_ns() // 1_000_000
    async with app.state.pool.acquire() as conn, conn.transaction():
        active = await conn.fetchval("SELECT COUNT(*) FROM workloads WHERE org_id = $1 AND ended_ms = 0", org)
        if active >= 10_000_000:
            raise HTTPException(429, "too many workloads are active")
        row = await conn.fetchrow(
            "INSERT INTO workloads (id, org_id, name, state, reason, reason_text, spec, max_price_uusd_h, created_ms, updated_ms)"
            " VALUES ($1, $2, $3, 'pending', 'submitted', 'waiting for a worker', $4, $5, $6, $6) RETURNING *",
            ident, org, spec.name or ident[-8:], spec.model_dump_json(), spec.max_price_uusd_h, now,
        )  # fmt: skip
        transfer = await hold(conn, org, replica, spec.max_price_uusd_h * 600 // 3600, now)
        await conn.execute(
            "INSERT INTO replicas (id, org_id, workload_id, number, state, retries_left, hold_id, created_ms, updated_ms)"
            " VALUES ($1, $2, $3, 0, 'pending', $4, $5, $6, $6)", replica, org, ident, spec.retries, transfer, now,
        )  # fmt: skip
        await conn.execute(
            "INSERT INTO events (id, org_id, actor, subject, kind, reason, text, at_ms)"
            " VALUES ($1, $2, 'key', $3, 'workload.pending', 'submitted', 'waiting for a worker', $4)",
            new_id("ev"), org, ident, now,
        )  # fmt: skip
    return dict(row) | {"spec": spec.model_dump()}
