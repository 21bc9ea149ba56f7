// Starts Swagger UI, which comes from a package of its own.
SwaggerUIBundle({ url: "../openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null, tryItOutEnabled: true });
