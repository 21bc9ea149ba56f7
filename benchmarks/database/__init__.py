"""What the database layer costs against psycopg written by hand, each table paired within one run."""
