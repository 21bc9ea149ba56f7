"""A library of three services, one file each, run together or apart.

```sh
cliffracer run examples.library.books:app examples.library.loans:app examples.library.reminders:app
```

Then, in another terminal:

```sh
$ cliffracer call books.add title=Dune copies=1
1
$ cliffracer call loans.borrow book_id=1 reader=ada
{ "book": "Dune", "reader": "ada", "due": "..." }
$ cliffracer call loans.borrow book_id=1 reader=bob
Error: Conflict: no copy of Dune is left
```

The same three files run as three processes, on one machine or many: nothing in them says where the others are.
"""
