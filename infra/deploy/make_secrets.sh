#!/usr/bin/env bash
# Makes up the keys and passwords of compose.yaml, once: what exists is kept.
#   make_secrets.sh [DIRECTORY]      by default secrets/ beside this file, which git ignores
set -euo pipefail
directory=${1:-"$(dirname "$0")/secrets"}
umask 077
mkdir -p "$directory"

# An existing file stays as it is.
make_up() {
    [ -s "$directory/$1" ] || printf '%s%s' "$2" "$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')" > "$directory/$1"
}
hash_of() { sha256sum < "$directory/$1" | cut -d ' ' -f 1; }

make_up tenant_key rk_
make_up clickhouse_password ""
make_up analyst_password ""

# ClickHouse gets hashes only. Views run with the rights of the account that made them: an analyst reads the views
# of `ratchet` and of kept stores, `ratchet_NAME`, and neither the storage below nor a rebuild that is not finished.
cat > "$directory/clickhouse_users.xml" <<XML
<clickhouse>
    <profiles>
        <writer>
            <default_normal_view_sql_security>DEFINER</default_normal_view_sql_security>
            <distributed_product_mode>global</distributed_product_mode>
        </writer>
        <analyst>
            <readonly>2</readonly>
            <!-- On a cluster a subquery of a view reads whole tables; on one server this says nothing. -->
            <distributed_product_mode>global</distributed_product_mode>
            <max_execution_time>60</max_execution_time>
        </analyst>
    </profiles>
    <users>
        <default remove="remove"/>
        <ratchet>
            <password_sha256_hex>$(hash_of clickhouse_password)</password_sha256_hex>
            <networks><ip>::/0</ip></networks>
            <profile>writer</profile>
            <quota>default</quota>
        </ratchet>
        <analyst>
            <password_sha256_hex>$(hash_of analyst_password)</password_sha256_hex>
            <networks><ip>::/0</ip></networks>
            <profile>analyst</profile>
            <quota>default</quota>
            <grants>
                <query>GRANT SELECT ON ratchet.*</query>
                <query>GRANT SELECT ON ratchet_*.*</query>
                <query>REVOKE SELECT ON ratchet_store*.*</query>
                <query>REVOKE SELECT ON ratchet_next.*</query>
            </grants>
        </analyst>
    </users>
</clickhouse>
XML

# Containers read these files as users of their own; the directory keeps everybody else out.
chmod 644 "$directory"/*
chmod 700 "$directory"
echo "secrets are in $directory"
