"""The store on DynamoDB: the only folder with its expressions."""
