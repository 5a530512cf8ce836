"""The rules by which rows are judged: row rules are Spark columns, group rules run on one bucket of users in numpy."""
