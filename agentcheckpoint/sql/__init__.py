"""Steps that a user's own SQL transaction records: the table that they need. The steps are ``run.sql_step``."""

from agentcheckpoint.sql.rows import CREATE_TABLE as CREATE_TABLE
from agentcheckpoint.sql.table import create_table as create_table
from agentcheckpoint.sql.table import create_table_async as create_table_async
from agentcheckpoint.sql.table import prune as prune
from agentcheckpoint.sql.table import prune_async as prune_async
