# shellcheck shell=sh
# Sourced once by the image, when the volume is empty: the owner of the tables, who is no superuser, and the reader that
# autoscaling signs in as (it may see nothing until the migration job grants it the few columns it needs).
psql -v ON_ERROR_STOP=1 --no-password --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv database POSTGRES_DB
\getenv owner OWNER
\getenv password OWNER_PASSWORD
\getenv scaler SCALER
\getenv scaler_password SCALER_PASSWORD
CREATE ROLE :"owner" LOGIN PASSWORD :'password';
ALTER DATABASE :"database" OWNER TO :"owner";
CREATE ROLE :"scaler" LOGIN PASSWORD :'scaler_password' CONNECTION LIMIT 8;
SQL
